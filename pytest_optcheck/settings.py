"""Settings from command line and ini file, frozen; what is wrong with them is said before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_optcheck import devices, environment, judge, options, routes
from pytest_optcheck.cases import COUNTS, TIMING, Scope
from pytest_optcheck.convergence import MARGIN
from pytest_optcheck.cost.figures import LISTS, MANY, ZOO
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.oracles.names import declared
from pytest_optcheck.specs import parse
from pytest_optcheck.targets import BENCH, chosen, known_names, known_routes, quick, read_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.specs import TextSpec
    from pytest_optcheck.targets import Target

UPDATES: Mapping[str, frozenset[judge.Kind]] = {
    "missing": frozenset({"missing"}),
    "changed": frozenset({"improved", "changed", "regression", "diverged", "lost", "heavier", "slower"}),
    "stale": frozenset({"stale"}),
    "all": frozenset(judge.KINDS) - {"match", "incomparable"},
}
"""``--optcheck-update`` value -> the verdicts whose goldens it records anew."""


VARIANT_ROUTES = ("foreach", "fused", "resume")
"""What variants are checked on besides the plain route: branches of one implementation, state that is not saved."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the plugin was asked for.

    Attributes:
        targets: the configured optimizers, in the order they were written.
        known: every reference model by name, as ``module:Class``.
        workloads: names of those that are used where nothing else is said.
        usual: the same, had no option narrowed it.
        only: names given by option, to which everything is narrowed; empty for no narrowing.
        device: a torch device, as text.
        curves: directory of the goldens.
        update: verdicts whose goldens are recorded anew; empty for a mere check.
        reason: why they are, in the user's words.
        allow: verdicts that warn instead of failing.
        diverging: canonical specs that are declared to leave the finite numbers.
        marked: whether marked tests run; not if one optimizer was asked for by option.
        profile: one of `options.PROFILES`.
        routes: routes, or dtypes of the plain one, to which everything is narrowed; empty for no narrowing.
        variants: ``auto``, ``none``, or settings as text, each of which makes a variant.
        discover: modules whose optimizers are all checked.
        discovered_on: the reference models they are checked on where no option narrows them.
        arguments: lines that complete the constructor calls of discovered optimizers.
        cost: what is asked of a step beside what it computes, of `ASPECTS`.
        base: the revision, directory or package whose code is compared with this one; empty for none.
        root: of the project, in whose repository a base revision is looked for.
        report: where every figure of the run is written to; None for nowhere.
        same_as: ``module:Class``, or the name of a marked test's optimizer -> the family it is declared to belong to.
        selftest: whether optimizers are broken, to see that it is noticed.
        ensembles: the reference models on which runs over many seeds are kept, to say whether a change is worse.
        margin: the relative difference of losses and steps that is none.
    """

    targets: tuple[Target, ...]
    known: Mapping[str, str]
    workloads: tuple[str, ...]
    only: tuple[str, ...]
    device: str
    curves: Path
    update: frozenset[judge.Kind]
    reason: str
    allow: frozenset[str]
    diverging: frozenset[str]
    marked: bool
    profile: str = "default"
    routes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("auto",)
    discover: tuple[str, ...] = ()
    discovered_on: tuple[str, ...] = BENCH
    arguments: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    cost: tuple[str, ...] = (COUNTS, TIMING)
    base: str = ""
    root: Path = Path()
    report: Path | None = None
    same_as: Mapping[str, str] = field(default_factory=dict)
    selftest: bool = False
    ensembles: tuple[str, ...] = ()
    margin: float = MARGIN

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> Settings:
        """Read options and ini settings, the former first.

        Raises:
            OptcheckError: a value is unknown, a spec is malformed, or recording is refused here.
        """
        option = config.option
        selftest = options.selftest(config)
        known = options.known_workloads(config)
        only = known_names(option.optcheck_workload or (), known)
        usual = known_names(config.getini("optcheck_workloads") or known, known)
        default = only or usual
        lines = [*config.getini("optcheck_optimizers"), *options.hooked_specs(config)]
        configured = [read_target(line, default, usual, known) for line in lines]
        worker_device = getattr(config, "workerinput", {}).get("optcheck_device")
        profile = options.profile(option.optcheck_profile or config.getini("optcheck_profile"))
        targets = chosen(option.optcheck_optimizer or (), configured, only, default, usual)
        settings = cls(
            targets=tuple(map(quick, targets)) if profile == "quick" and not only else targets,
            known=known,
            workloads=default,
            only=only,
            device=worker_device or devices.resolve(option.optcheck_device or config.getini("optcheck_device")),
            curves=options.path(config, "optcheck_curves"),
            update=UPDATES[option.optcheck_update] if option.optcheck_update else frozenset(),
            reason=option.optcheck_reason or "",
            allow=options.verdicts(option.optcheck_allow or config.getini("optcheck_allow")),
            diverging=frozenset(parse(line).text for line in config.getini("optcheck_diverging")),
            marked=not (option.optcheck_optimizer or option.optcheck_base or option.optcheck_selftest),
            profile=profile,
            routes=known_routes(option.optcheck_route or config.getini("optcheck_routes")),
            variants=options.variants(config.getini("optcheck_variants")),
            discover=() if option.optcheck_optimizer and not option.optcheck_discover else options.modules(config),
            discovered_on=known_names(config.getini("optcheck_workloads") or BENCH, known),
            arguments=tuple(parse(line).text for line in config.getini("optcheck_arguments")),
            usual=usual,
            cost=options.aspects(config.getini("optcheck_cost")),
            base=options.base(config),
            root=config.rootpath,
            report=options.report(config),
            same_as=declared(config.getini("optcheck_same_as")),
            selftest=selftest,
            ensembles=options.ensembles(config.getini("optcheck_ensembles"), known),
            margin=options.margin(config.getini("optcheck_margin")),
        )
        if settings.update and worker_device is None:
            settings.check_may_record(force=option.optcheck_force)
        return settings

    def fails(self, kind: judge.Kind) -> bool:
        """Whether this verdict fails a test."""
        return kind not in judge.PASSING and kind not in self.allow

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """In which the plain route is checked."""
        return tuple(dtype for dtype in DTYPES if not self.routes or dtype in self.routes)

    def routes_on(self, workload: str, all_workloads: Sequence[str]) -> tuple[str, ...]:
        """Routes that are checked on one of the reference models of an optimizer, apart from the plain one."""
        cheapest = self._cheapest(all_workloads)
        if self.routes:
            return tuple(name for name in routes.NAMES if name in self.routes)
        if self.profile == "full":
            return routes.NAMES
        if self.profile == "default" and workload == cheapest:
            return tuple(name for name in routes.NAMES if name not in routes.SLOW)
        return tuple(name for name in routes.NAMES if name in routes.QUICK) if workload in (cheapest, *BENCH) else ()

    def _cheapest(self, names: Sequence[str]) -> str:
        """Of these reference models the one that is known first; they are listed by what they cost."""
        return min(names, key=list(self.known).index)

    def scope(self, target: Target, workload: str) -> Scope:
        """What the golden of a target is recorded with."""
        if target.routes:
            both = tuple(name for name in target.routes if not self.routes or name in self.routes)
            if not both:
                return Scope(DTYPES[:1], checked=())
            return replace(replace(self, routes=both).scope(replace(target, routes=()), workload), twice=False)
        among = target.among or target.workloads
        on_cheapest = workload == self._cheapest(among)
        variable = target.varied and not target.spec.schedulers
        varied = variable and on_cheapest and self.variants != ("none",) and not self.routes
        names = self.routes_on(workload, among)
        if target.spec.schedulers and self.profile != "full":
            names = tuple(name for name in names if name in routes.SCHEDULED)
        counted = self.counted_on(workload, among)
        if not target.discovered or self.profile == "full":
            guarded = varied and not target.discovered
            timed = on_cheapest and self._asks(TIMING) and self.profile != "quick" and not target.spec.schedulers
            everywhere = self.profile == "full" or workload in BENCH or on_cheapest
            checked = self.dtypes if self.routes else DTYPES if everywhere else DTYPES[:1]
            found = Scope(self.dtypes or DTYPES, names, varied, guarded, twice=on_cheapest, checked=checked)
            return replace(found, counted=counted, compiled=self.compiled, timed=timed)
        names = tuple(name for name in names if name not in routes.OWN_CURVE)
        return Scope(DTYPES[:1], names, varied, lean=True, twice=on_cheapest, counted=counted)

    def counted_on(self, workload: str, all_workloads: Sequence[str]) -> tuple[str, ...]:
        """Lists on which the steps of an optimizer are counted for its golden on one of its reference models."""
        return self._counted(LISTS) if workload == self._cheapest(all_workloads) else ()

    @property
    def compiled(self) -> bool:
        """Whether recompiles are counted where operations are; that takes seconds for every optimizer."""
        return self.profile == "full"

    def _asks(self, aspect: str) -> bool:
        """Whether `aspect` of a step is asked for: all that are configured are, unless an option narrows to others."""
        return aspect in self.routes if self.routes else aspect in self.cost

    def _counted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The lists of `names` that steps are counted on; the longest is left to the fuller profiles."""
        if not self._asks(COUNTS):
            return ()
        return tuple(name for name in names if self.profile != "quick" or name != MANY)

    @property
    def variant_scope(self) -> Scope:
        """What the golden of a variant is recorded with."""
        wanted = () if self.profile == "quick" else VARIANT_ROUTES
        names = tuple(name for name in wanted if not self.routes or name in self.routes)
        counted = self._counted(LISTS if self.profile == "full" else (ZOO,))
        implied = self.profile == "default" and not self.routes
        return Scope(DTYPES[:1], names, counted=counted, ensemble=False, implied=implied)

    def chosen_variants(self, spec: TextSpec, derived: tuple[TextSpec, ...]) -> tuple[TextSpec, ...]:
        """The derived variants, or those that the user lists and the constructor takes."""
        if self.variants == ("auto",):
            return derived
        accepted = spec.accepts() or {}
        listed = (dict(parse(f"variant:of({line})").keywords) for line in self.variants)
        return tuple(spec.with_settings(**keywords) for keywords in listed if keywords.keys() <= accepted.keys())

    def check_may_record(self, *, force: bool) -> None:
        """Refuse to record under CI unless forced, and where the directory cannot be written.

        Raises:
            OptcheckError: either.
        """
        if environment.in_ci() and not force:
            raise OptcheckError(
                "--optcheck-update is refused under CI (the variable CI is set): a golden is recorded where a human "
                "looks at the change; --optcheck-force overrides"
            )
        Goldens(self.curves).check_writable()
