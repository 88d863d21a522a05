"""One-line edits of the installed ``torch/optim/adam.py``: which goldens turn red, and are they the right ones?

The edit is made in memory: a ``sitecustomize`` on the module path of the checking processes gives
``torch.optim.adam`` the edited source when it is imported, which is the same as editing the installed file.
``Adam`` and ``AdamW`` run that file (in this torch ``AdamW`` is a subclass that always decouples its decay);
every other class of ``torch.optim`` has a file of its own and must stay green.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.environments import Answer, optcheck  # noqa: E402 - found by the path above
from benchmarks.figures import add_json_option, finish  # noqa: E402 - ditto
from pytest_optcheck.routes import OWN_CURVE  # noqa: E402 - after the path
from pytest_optcheck.specs import TextSpec, parse  # noqa: E402 - ditto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SITECUSTOMIZE = '''
"""Gives one module an edited source: an import hook ahead of all others."""

import importlib.machinery
import pathlib
import sys

MODULE = "torch.optim.adam"
SOURCE = pathlib.Path(__file__).with_name("edited.txt").read_bytes()


class EditedLoader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):  # past the cache of compiled files
        return self.source_to_code(SOURCE, self.get_filename(fullname))


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = EditedLoader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder)
'''


@dataclass(frozen=True, slots=True)
class Edit:
    """One changed line.

    Attributes:
        old: the line; with as much around it as makes it occur once in the file.
        new: what stands there afterwards.
        reached: whether an Adam or AdamW of this spec runs the line.
        step: the update after which every float64 case must first be outside.
        why: that step, explained.
    """

    name: str
    old: str
    new: str
    reached: Callable[[TextSpec], bool]
    step: int
    why: str


def main() -> None:
    """Check under every edit, and print what turned red beside what should have."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="only edits whose name contains this")
    add_json_option(parser)
    options = parser.parse_args()
    edits = [edit for edit in EDITS if options.only in edit.name]
    right = missed = extra = 0
    for edit in edits:
        answers = checked_under(edit)
        wrong = Wrong.among(answers, edit)
        print("\n".join(described(edit, answers, wrong)), flush=True)
        right += wrong == Wrong()
        missed += len(wrong.green) + len(wrong.elsewhen)
        extra += len(wrong.red)
    finish({"edits": len(edits), "right": right, "missed": missed, "extra": extra}, options.json)


def path_of(spec: TextSpec) -> str:
    """Which implementation a spec asks for; on the CPU torch takes the for-loop unless told otherwise."""
    keywords = dict(spec.keywords)
    return "fused" if keywords.get("fused") else "foreach" if keywords.get("foreach") else "for-loop"


def decay_of(spec: TextSpec) -> str:
    """``none``, ``coupled`` (added to the gradient) or ``decoupled``; AdamW decays by 0.01 unless told otherwise."""
    keywords = dict(spec.keywords)
    if not keywords.get("weight_decay", 0.01 if spec.name == "AdamW" else 0.0):
        return "none"
    return "decoupled" if spec.name == "AdamW" or keywords.get("decoupled_weight_decay") else "coupled"


def on_route(spec: TextSpec, route: str) -> TextSpec:
    """The spec as a route builds it, as far as that chooses the implementation."""
    if route not in ("foreach", "fused"):
        return spec
    turned = not dict(spec.keywords).get(route)
    return spec.with_settings(**{"foreach": False, "fused": False, route: turned})


EDITS = (
    Edit(
        "eps inside the root (for-loop, without amsgrad)",
        "denom = (exp_avg_sq.sqrt() / bias_correction2_sqrt).add_(eps)",
        "denom = (exp_avg_sq / bias_correction2).add_(eps).sqrt_()",
        lambda spec: path_of(spec) == "for-loop" and not dict(spec.keywords).get("amsgrad"),
        step=1,
        why="the first update already divides by sqrt(g² + eps) instead of |g| + eps",
    ),
    Edit(
        "bias correction of the second moment dropped (for-loop)",
        "bias_correction2_sqrt = bias_correction2**0.5",
        "bias_correction2_sqrt = 1.0",
        lambda spec: path_of(spec) == "for-loop",
        step=1,
        why="the correction is largest at the first update: 1/sqrt(1 - beta2)",
    ),
    Edit(
        "sign of the coupled weight decay flipped (for-loop)",
        "grad = grad.add(param, alpha=weight_decay)\n\n",
        "grad = grad.add(param, alpha=-weight_decay)\n\n",
        lambda spec: path_of(spec) == "for-loop" and decay_of(spec) == "coupled",
        step=1,
        why="where the gradient is zero or small the decay alone decides the direction of the first update",
    ),
    Edit(
        "sign of the decoupled weight decay flipped (for-loop)",
        "param.mul_(1 - lr * weight_decay)",
        "param.mul_(1 + lr * weight_decay)",
        lambda spec: path_of(spec) == "for-loop" and decay_of(spec) == "decoupled",
        step=1,
        why="the first update grows the parameters by lr * weight_decay instead of shrinking them",
    ),
    Edit(
        "step counter not incremented (for-loop)",
        "step_t += 1",
        "step_t += 0",
        lambda spec: path_of(spec) == "for-loop",
        step=1,
        why="the first update divides by 1 - beta1**0, which is zero, and raises",
    ),
    Edit(
        "step counter not kept: a copy is incremented (for-loop)",
        "step_t += 1\n",
        "step_t = step_t + 1\n",
        lambda spec: path_of(spec) == "for-loop",
        step=2,
        why="the first update is right, every later one is corrected for bias as if it were the first",
    ),
    Edit(
        "weight of the first moment lost (foreach)",
        "cast(float, 1 - device_beta1)",
        "cast(float, device_beta1)",
        lambda spec: path_of(spec) == "foreach",
        step=1,
        why="the first moment starts at beta1 * g instead of (1 - beta1) * g",
    ),
)


@dataclass(frozen=True, slots=True)
class Wrong:
    """What the goldens got wrong about one edit.

    Attributes:
        green: float64 cases, on any route to the plain curve, that run the edited line and match; and configured
            specs that were not checked at all.
        elsewhen: such cases that turned red at another step than expected.
        red: cases that do not run the edited line and do not match.
    """

    green: tuple[str, ...] = ()
    elsewhen: tuple[str, ...] = ()
    red: tuple[str, ...] = ()

    @classmethod
    def among(cls, answers: Iterable[Answer], edit: Edit) -> Wrong:
        """Compare every answer with what `edit` must do to it.

        Cases in fewer bits may match or turn red later (a change below their rounding is none there), not earlier.
        The route ``differentiable`` has formulas of its own among those of the for-loop, and is passed over.
        """
        green, elsewhen, red = [], [], []
        for answer in answers:
            if answer.route == "differentiable":
                continue
            if not reaches(edit, on_route(parse(answer.spec), answer.route)):
                red += [str(answer)] if answer.verdict != "match" else []
            elif answer.verdict == "match":
                green += [] if narrow(answer) else [str(answer)]
            elif answer.first_step != edit.step and not later(answer, edit):
                elsewhen.append(str(answer))
        unseen = expected(edit) - {answer.spec for answer in answers}
        return cls((*green, *(f"{spec}: not checked at all" for spec in sorted(unseen))), tuple(elsewhen), tuple(red))


def later(answer: Answer, edit: Edit) -> bool:
    """A case in fewer bits that turned red after the expected update."""
    return narrow(answer) and answer.first_step is not None and answer.first_step > edit.step


def narrow(answer: Answer) -> bool:
    """Whether a case computes in fewer bits than float64."""
    return answer.dtype == "float32" or answer.route in OWN_CURVE


def reaches(edit: Edit, spec: TextSpec) -> bool:
    """Whether an optimizer runs the edited line."""
    return spec.module == "torch.optim" and spec.name in ("Adam", "AdamW") and edit.reached(spec)


def configured() -> list[TextSpec]:
    """Every optimizer of the ini list."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = settings["tool"]["pytest"]["ini_options"]["optcheck_optimizers"]
    return [parse(line.partition(" @ ")[0]) for line in lines]


def expected(edit: Edit) -> set[str]:
    """Specs of the ini list that run the edited line."""
    return {spec.text for spec in configured() if reaches(edit, spec)}


def checked_under(edit: Edit) -> Sequence[Answer]:
    """The answers of a whole ``pytest --optcheck`` while torch runs the edited line."""
    found = find_spec("torch.optim.adam")
    if found is None or found.origin is None:
        sys.exit("torch has no optim/adam.py here")
    source = Path(found.origin).read_text(encoding="utf-8")
    if source.count(edit.old) != 1:
        sys.exit(f"{edit.name}: {edit.old!r} occurs {source.count(edit.old)} times in {found.origin}, expected 1")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
        Path(folder, "edited.txt").write_text(source.replace(edit.old, edit.new), encoding="utf-8")
        check = optcheck({}, path=[Path(folder)])
    if check.problems:
        sys.exit(f"{edit.name}: without a verdict: {', '.join(check.problems)}")
    return check.answers


def described(edit: Edit, answers: Iterable[Answer], wrong: Wrong) -> Iterator[str]:
    """An edit in a few lines: what turned red and when, and what should not have or should have."""
    yield f"{edit.name}: first outside expected after update {edit.step}: {edit.why}"
    by_spec: dict[str, list[Answer]] = {}
    for answer in answers:
        by_spec.setdefault(answer.spec, []).append(answer)
    for spec, cases in by_spec.items():
        red = [case for case in cases if case.verdict != "match"]
        if red:
            steps = sorted({-1 if case.first_step is None else case.first_step for case in red})
            kinds = sorted({case.verdict for case in red})
            yield (
                f"  {spec}: {len(red)} of {len(cases)} cases {', '.join(kinds)}, "
                f"first outside after update {', '.join(map(str, steps))}"
            )
            yield from (f"    green: {case.workload}, {case.how}" for case in cases if case.verdict == "match")
    yield f"  expected: {len(expected(edit))} specs; {'right' if wrong == Wrong() else 'WRONG'}"
    yield from (f"  MISSED: {text}" for text in wrong.green)
    yield from (f"  OTHER STEP: {text}" for text in wrong.elsewhen)
    yield from (f"  EXTRA: {text}" for text in wrong.red)


if __name__ == "__main__":
    main()
