from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interpreter import imported

from pytest_optcheck import routes
from pytest_optcheck.cost.figures import LISTS, TEN, ZOO
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.judge import KINDS, PASSING, Kind
from pytest_optcheck.options import PROFILES
from pytest_optcheck.settings import UPDATES, VARIANT_ROUTES, Settings
from pytest_optcheck.specs import parse
from pytest_optcheck.targets import BENCH, Target, chosen, read_target

SGD = parse("torch.optim:SGD(lr=0.1)")
KNOWN = {name: f"module:{name.title()}" for name in ("zoo", "quadratic", "linear", "mlp")}
DEFAULT = tuple(name for name in routes.NAMES if name not in routes.SLOW)
QUICK = tuple(name for name in routes.NAMES if name in routes.QUICK)


def settings(**fields: Any) -> Settings:  # noqa: ANN401 - fields of the settings
    """Settings of a project without anything in it."""
    nothing: dict[str, Any] = {
        "targets": (),
        "known": KNOWN,
        "workloads": tuple(KNOWN),
        "only": (),
        "device": "cpu",
        "curves": Path("curves"),
        "update": frozenset(),
        "reason": "",
        "allow": frozenset(),
        "diverging": frozenset(),
        "marked": True,
    }
    return Settings(**{**nothing, **fields})


def read(pytester: pytest.Pytester, ini: str, *options: str) -> Settings:
    """Settings of a project with these lines of ini and these options."""
    pytester.makeini(f"[pytest]\n{ini}")
    return Settings.from_pytest_config(pytester.parseconfig("--optcheck", *options))


def test_an_update_of_every_mode_is_an_update_of_all() -> None:
    assert frozenset().union(*UPDATES.values()) == UPDATES["all"] == frozenset(KINDS) - set(PASSING)
    assert all("match" not in kinds for kinds in UPDATES.values())


@pytest.mark.parametrize(
    ("named", "dtypes"),
    [((), DTYPES), (("float32",), ("float32",)), (("float32", "resume", "float64"), DTYPES), (("resume",), ())],
)
def test_the_plain_route_is_named_by_its_dtypes(named: tuple[str, ...], dtypes: tuple[str, ...]) -> None:
    assert settings(routes=named).dtypes == dtypes


@pytest.mark.parametrize(
    ("profile", "workload", "expected"),
    [
        ("quick", "zoo", QUICK),
        ("quick", "mlp", QUICK),
        ("quick", "linear", ()),
        ("default", "zoo", DEFAULT),
        ("default", "mlp", QUICK),
        ("default", "linear", ()),
        ("full", "zoo", routes.NAMES),
        ("full", "linear", routes.NAMES),
    ],
)
def test_a_profile_says_which_routes_are_checked_where(profile: str, workload: str, expected: tuple[str, ...]) -> None:
    assert settings(profile=profile).routes_on(workload, tuple(KNOWN)) == expected


@pytest.mark.parametrize("profile", ["quick", "default"])
def test_the_first_known_model_of_an_optimizer_is_the_one_that_all_routes_run_on(profile: str) -> None:
    found = settings(profile=profile).routes_on("quadratic", ("linear", "quadratic"))
    assert found == (DEFAULT if profile == "default" else QUICK)


@pytest.mark.parametrize("profile", PROFILES)
def test_routes_that_are_named_are_checked_everywhere_in_the_order_of_all(profile: str) -> None:
    named = settings(profile=profile, routes=("resume", "float64", "compiled", "foreach"))
    assert all(named.routes_on(name, tuple(KNOWN)) == ("foreach", "compiled", "resume") for name in KNOWN)


@pytest.mark.parametrize(
    ("target", "workload", "varied", "fields"),
    [
        (Target(SGD, ("zoo", "mlp")), "zoo", True, {}),
        (Target(SGD, ("zoo", "mlp")), "mlp", False, {}),
        (Target(SGD, ("mlp",), among=("zoo", "mlp")), "mlp", False, {}),
        (Target(SGD, ("zoo",)), "zoo", False, {"variants": ("none",)}),
        (Target(SGD, ("zoo",)), "zoo", True, {"variants": ("momentum=0.5",)}),
        (Target(SGD, ("zoo",)), "zoo", False, {"routes": ("resume",)}),
        (Target(parse("torch.optim:SGD() >> StepLR(step_size=3)"), ("zoo",)), "zoo", False, {}),
        (Target(SGD, ("zoo", "mlp"), varied=False), "zoo", False, {}),
    ],
)
def test_a_signature_is_varied_once_and_where_nothing_speaks_against_it(
    target: Target, workload: str, varied: bool, fields: dict[str, Any]
) -> None:
    scope = settings(**fields).scope(target, workload)
    assert (scope.varied, scope.guarded) == (varied, varied)


def test_the_first_of_a_class_is_varied_whoever_is_asked_for() -> None:
    lines = ["torch.optim:SGD() >> StepLR(step_size=3)", "torch.optim:SGD()", "torch.optim:SGD(lr=0.1)"]
    targets = [Target(parse(line), ("zoo",)) for line in lines]
    assert [target.varied for target in chosen((), targets, (), ("zoo",), ("zoo",))] == [False, True, False]
    for asked, varied in ((lines[2], False), ("torch.optim:SGD(lr=0.2)", False), ("torch.optim:Adam()", True)):
        (target,) = chosen((asked,), targets, (), ("zoo",), ("zoo",))
        assert target.varied is varied


def test_a_schedule_is_checked_on_the_routes_that_it_may_get_wrong_unless_all_are_asked_for() -> None:
    target = Target(parse("torch.optim:SGD() >> StepLR(step_size=3)"), ("zoo",))
    assert set(settings().scope(target, "zoo").routes) == routes.SCHEDULED
    assert settings(profile="full").scope(target, "zoo").routes == routes.NAMES


@pytest.mark.parametrize("discovered", ["", "torch.optim"])
def test_two_runs_are_compared_on_the_first_model_alone(discovered: str) -> None:
    target = Target(SGD, ("zoo", "mlp"), discovered)
    assert [settings().scope(target, name).twice for name in ("zoo", "mlp")] == [True, False]
    assert not settings().variant_scope.twice


@pytest.mark.parametrize(
    ("fields", "implied"), [({}, True), ({"profile": "full"}, False), ({"routes": ("resume",)}, False)]
)
def test_the_plain_route_of_a_variant_is_left_to_resume_in_the_usual_profile(
    fields: dict[str, Any], implied: bool
) -> None:
    assert settings(**fields).variant_scope.implied is implied
    assert not settings(**fields).scope(Target(SGD, ("zoo",)), "zoo").implied


@pytest.mark.parametrize(
    ("workload", "fields", "expected"),
    [
        ("zoo", {}, DTYPES),
        ("mlp", {}, DTYPES),
        ("linear", {}, ("float64",)),
        ("linear", {"profile": "full"}, DTYPES),
        ("linear", {"routes": ("float32",)}, ("float32",)),
    ],
)
def test_float32_is_checked_on_two_models_unless_all_is_asked_for(
    workload: str, fields: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """It is recorded on every one all the same."""
    scope = settings(**fields).scope(Target(SGD, tuple(KNOWN)), workload)
    assert scope.checked == expected
    assert scope.dtypes == (("float32",) if "routes" in fields else DTYPES)


def test_the_only_model_of_an_optimizer_is_checked_in_float32_too() -> None:
    assert settings().scope(Target(SGD, ("linear",)), "linear").checked == DTYPES


@pytest.mark.parametrize(
    ("own", "asked", "dtypes", "names"),
    [
        (("float64", "counts"), (), ("float64",), ()),
        (("resume", "float32", "foreach"), (), ("float32",), ("foreach", "resume")),
        (("foreach",), (), (), ("foreach",)),
        (("float64", "foreach"), ("foreach", "resume"), (), ("foreach",)),
        (("float64", "foreach"), ("resume",), (), ()),
        ((), ("resume",), (), ("resume",)),
    ],
)
def test_a_line_may_narrow_its_optimizer_to_a_few_routes(
    own: tuple[str, ...], asked: tuple[str, ...], dtypes: tuple[str, ...], names: tuple[str, ...]
) -> None:
    narrowed = f"[{', '.join(own)}]" if own else ""
    target = read_target(f"{SGD.text} @ zoo {narrowed}", (), (), KNOWN)
    assert target == Target(SGD, ("zoo",), among=("zoo",), routes=own)
    scope = settings(routes=asked).scope(target, "zoo")
    assert (scope.checked, scope.routes, bool(scope.counted)) == (dtypes, names, "counts" in own)
    assert (scope.varied, scope.timed, scope.twice) == (False, False, not own)


def test_a_discovered_optimizer_is_varied_but_gets_no_goldens_for_that() -> None:
    scope = settings().scope(Target(SGD, BENCH, "torch.optim"), "zoo")
    assert (scope.varied, scope.guarded) == (True, False)


@pytest.mark.parametrize("workload", ["linear", "mlp"])
def test_what_is_recorded_does_not_depend_on_which_models_were_asked_for(workload: str) -> None:
    whole, narrowed = Target(SGD, tuple(KNOWN)), Target(SGD, (workload,), among=tuple(KNOWN))
    assert settings().scope(narrowed, workload) == settings().scope(whole, workload)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, VARIANT_ROUTES),
        ({"profile": "full"}, VARIANT_ROUTES),
        ({"profile": "quick"}, ()),
        ({"routes": ("resume", "deepcopy")}, ("resume",)),
    ],
)
def test_a_variant_is_checked_in_one_dtype_and_on_few_routes(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    scope = settings(**fields).variant_scope
    assert (scope.dtypes, scope.routes, scope.varied) == (("float64",), expected, False)


SCHEDULED = Target(parse("torch.optim:SGD() >> StepLR(step_size=3)"), ("zoo",))
FOUND = Target(SGD, BENCH, "torch.optim")


@pytest.mark.parametrize(
    ("target", "workload", "fields", "counted", "timed"),
    [
        (Target(SGD, BENCH), "zoo", {}, LISTS, True),
        (Target(SGD, BENCH), "mlp", {}, (), False),
        (SCHEDULED, "zoo", {}, LISTS, False),
        (FOUND, "zoo", {}, LISTS, False),
        (Target(SGD, BENCH), "zoo", {"profile": "quick"}, (ZOO, TEN), False),
        (Target(SGD, BENCH), "zoo", {"profile": "full"}, LISTS, True),
        (Target(SGD, BENCH), "zoo", {"cost": ("counts",)}, LISTS, False),
        (Target(SGD, BENCH), "zoo", {"cost": ()}, (), False),
        (Target(SGD, BENCH), "zoo", {"routes": ("resume",)}, (), False),
        (Target(SGD, BENCH), "zoo", {"routes": ("timing",)}, (), True),
        (Target(SGD, BENCH), "zoo", {"routes": ("counts", "resume")}, LISTS, False),
    ],
)
def test_steps_are_counted_and_timed_for_one_golden_of_an_optimizer(
    target: Target, workload: str, fields: dict[str, Any], counted: tuple[str, ...], timed: bool
) -> None:
    scope = settings(**fields).scope(target, workload)
    assert (scope.counted, scope.timed) == (counted, timed)


@pytest.mark.parametrize("target", [Target(SGD, BENCH), SCHEDULED, FOUND])
def test_recompiles_are_counted_in_the_full_profile(target: Target) -> None:
    assert settings(profile="full").scope(target, "zoo").compiled
    assert not settings().scope(target, "zoo").compiled
    assert not settings(profile="full").variant_scope.compiled


@pytest.mark.parametrize(
    ("fields", "counted"),
    [({}, (ZOO,)), ({"profile": "full"}, LISTS), ({"cost": ()}, ()), ({"routes": ("fused",)}, ())],
)
def test_the_steps_of_a_variant_are_counted_on_one_list(fields: dict[str, Any], counted: tuple[str, ...]) -> None:
    scope = settings(**fields).variant_scope
    assert (scope.counted, scope.timed) == (counted, False)


def test_the_report_lies_where_it_was_asked_for(pytester: pytest.Pytester) -> None:
    assert read(pytester, "").report is None
    assert read(pytester, "optcheck_report = all.json").report == pytester.path / "all.json"
    assert (
        read(pytester, "optcheck_report = all.json", "--optcheck-report=one.json").report == pytester.path / "one.json"
    )


def test_derived_variants_are_taken_as_they_are_unless_some_are_listed() -> None:
    derived = (SGD.with_settings(momentum=0.9),)
    assert settings().chosen_variants(SGD, derived) == derived
    listed = settings(variants=("momentum=0.5, nesterov=True", "betas=(0.9, 0.99)"))
    assert [spec.text for spec in listed.chosen_variants(SGD, derived)] == [
        "torch.optim:SGD(lr=0.1, momentum=0.5, nesterov=True)"
    ]


def test_without_a_word_from_the_user_the_defaults_hold(pytester: pytest.Pytester) -> None:
    found = read(pytester, "")
    assert (found.targets, found.profile, found.routes, found.variants) == ((), "default", (), ("auto",))
    assert (found.workloads, found.usual, found.only) == (tuple(found.known), tuple(found.known), ())
    assert (found.update, found.allow, found.marked, found.device) == (frozenset(), frozenset(), True, "cpu")


@pytest.mark.parametrize(
    ("ini", "options", "field", "expected"),
    [
        ("optcheck_profile = full", (), "profile", "full"),
        ("optcheck_profile = full", ("--optcheck-profile=quick",), "profile", "quick"),
        ("optcheck_routes = resume foreach", (), "routes", ("resume", "foreach")),
        ("optcheck_routes = resume", ("--optcheck-route=pickle", "--optcheck-route=pickle"), "routes", ("pickle",)),
        ("optcheck_variants = none", (), "variants", ("none",)),
        ("optcheck_variants =\n  momentum=0.5\n  dampening=0.1", (), "variants", ("momentum=0.5", "dampening=0.1")),
        ("optcheck_workloads = mlp zoo", (), "workloads", ("mlp", "zoo")),
        ("optcheck_workloads = mlp zoo", ("--optcheck-workload=zoo",), "workloads", ("zoo",)),
        ("optcheck_workloads = mlp zoo", ("--optcheck-workload=zoo",), "usual", ("mlp", "zoo")),
        ("optcheck_allow = changed", (), "allow", frozenset({"changed", "improved"})),
        ("optcheck_allow = regression", (), "allow", frozenset({"regression"})),
        ("", (), "ensembles", ("mlp", "digits_cnn")),
        ("optcheck_ensembles = lstm", (), "ensembles", ("lstm",)),
        ("optcheck_ensembles = none", (), "ensembles", ()),
        ("", (), "margin", 0.01),
        ("optcheck_margin = 0.05", (), "margin", 0.05),
        ("", ("--optcheck-optimizer=torch.optim:SGD()",), "marked", False),
    ],
)
def test_an_option_outweighs_its_ini_twin(
    pytester: pytest.Pytester, ini: str, options: tuple[str, ...], field: str, expected: object
) -> None:
    assert getattr(read(pytester, ini, *options), field) == expected


@pytest.mark.parametrize(
    ("ini", "options", "line"),
    [
        ("", ("--optcheck-route=resum",), "unknown route 'resum'; known are float64, float32, foreach, "),
        (
            "optcheck_optimizers = a:B() @ zoo [resum]",
            (),
            "unknown route 'resum'; known are float64, float32, foreach, ",
        ),
        ("", ("--optcheck-profile=Quick",), "optcheck profile 'Quick': expected quick, default, full"),
        ("", ("--optcheck-workload=moon",), "unknown workload 'moon'; known are zoo, "),
        ("", ("--optcheck-allow=match",), "unknown verdict 'match' to allow; known are slower, heavier, improved, "),
        ("optcheck_cost = speed", (), "optcheck_cost: 'speed' is unknown; expected counts, timing, both or none"),
        ("", ("--optcheck-report=r.html",), "optcheck report 'r.html': expected a file name that ends in .json"),
        ("optcheck_variants = momentum", (), "optimizer spec 'variant:of(momentum)'"),
        ("optcheck_ensembles = moon", (), "unknown workload 'moon'; known are zoo, "),
        ("optcheck_ensembles = none mlp", (), "unknown workload 'none'; known are zoo, "),
        ("optcheck_margin = 1", (), "optcheck_margin: '1' is no share; expected a number between 0 and 1, as 0.01"),
        ("optcheck_margin = 0", (), "optcheck_margin: '0' is no share; expected a number between 0 and 1, as 0.01"),
        ("optcheck_margin = nan", (), "optcheck_margin: 'nan' is no share"),
        ("optcheck_margin = 1 %", (), "optcheck_margin: '1 %' is no share"),
        ("optcheck_optimizers =\n  a:B()\n  a:B( )", (), "optimizer a:B() is configured twice"),
    ],
)
def test_what_is_unknown_is_said_in_one_line(
    pytester: pytest.Pytester, ini: str, options: tuple[str, ...], line: str
) -> None:
    with pytest.raises(OptcheckError) as caught:
        read(pytester, ini, *options)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


LINES = "optcheck_optimizers =\n  a:A()\n  a:B() @ mlp, linear\noptcheck_workloads = zoo mlp"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"a:A()": ("zoo", "mlp"), "a:B()": ("mlp", "linear")}),
        (("--optcheck-workload=linear",), {"a:A()": ("linear",), "a:B()": ("linear",)}),
        (("--optcheck-workload=zoo",), {"a:A()": ("zoo",)}),
        (("--optcheck-optimizer=a:B()",), {"a:B()": ("mlp", "linear")}),
        (("--optcheck-optimizer=a:C()",), {"a:C()": ("zoo", "mlp")}),
        (("--optcheck-optimizer=a:B()", "--optcheck-workload=zoo"), {"a:B()": ("zoo",)}),
        (("--optcheck-profile=quick",), {"a:A()": ("zoo", "mlp"), "a:B()": ("mlp",)}),
        (("--optcheck-profile=quick", "--optcheck-workload=linear"), {"a:A()": ("linear",), "a:B()": ("linear",)}),
    ],
)
def test_options_narrow_the_models_of_every_optimizer(
    pytester: pytest.Pytester, options: tuple[str, ...], expected: dict[str, tuple[str, ...]]
) -> None:
    found = read(pytester, LINES, *options)
    assert {target.spec.text: target.workloads for target in found.targets} == expected


@pytest.mark.parametrize(
    "options", [(), ("--optcheck-workload=mlp",), ("--optcheck-optimizer=a:A()", "--optcheck-optimizer=a:B()")]
)
def test_the_models_an_optimizer_is_meant_for_are_known_however_it_is_narrowed(
    pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    found = read(pytester, LINES, *options)
    assert {target.spec.text: target.among for target in found.targets} == {
        "a:A()": ("zoo", "mlp"),
        "a:B()": ("mlp", "linear"),
    }


def test_the_settings_import_neither_torch_nor_numpy() -> None:
    assert imported("pytest_optcheck.settings", "torch", "numpy", "scipy") == []


@pytest.mark.parametrize(
    ("kind", "allow", "fails"),
    [("match", (), False), ("incomparable", (), False), ("changed", (), True), ("changed", ("changed",), False)],
)
def test_a_verdict_fails_a_test_unless_it_passes_or_is_allowed(kind: Kind, allow: tuple[str, ...], fails: bool) -> None:
    assert settings(allow=frozenset(allow)).fails(kind) is fails


def test_a_self_test_leaves_marked_tests_out(pytester: pytest.Pytester) -> None:
    found = read(pytester, LINES, "--optcheck-selftest")
    assert (found.selftest, found.marked) == (True, False)
    assert not read(pytester, LINES).selftest
