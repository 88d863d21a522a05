"""The judge: run × golden × policy -> verdict. Pure: no files, no pytest, no torch.

A run is compared with its golden at every kept step, in the loss and in the norm of every tensor. Each value
may deviate by what rounding was measured to do there (the envelope), times a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pytest_optcheck.curves import EPS, PLAIN, deviation, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_optcheck.curves import Dtype, Failure, Run
    from pytest_optcheck.format import Curve, Golden, Point

Kind = Literal[
    "match",
    "incomparable",
    "slower",
    "heavier",
    "improved",
    "changed",
    "regression",
    "diverged",
    "lost",
    "missing",
    "stale",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Every verdict, best first. `improved` and `regression` are what `convergence` makes of a change."""

PASSING: tuple[Kind, ...] = ("match", "incomparable")
"""Those that do not fail a test: ``incomparable`` says that this machine cannot answer."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How far a value may lie from its golden.

    Attributes:
        margin: the least multiple of the envelope that is allowed, because its measurement is a maximum of
            few draws.
        generous: the multiple allowed while the result stays below `free`: a harmless rewrite may lose an ulp
            a step in one direction, where jitter loses them at random.
        free: deviations up to here are far below every real change (the least one tried moves a float64 curve
            by 1e-6) and far above rounding.
        floor_ulps: no envelope is taken for less than so many machine epsilons: the loss itself is a sum, and
            its rounding depends on the machine even where the parameters are equal.
        height_ulps: nor is the envelope of a loss, for less than so many machine epsilons of the largest loss of
            its curve: a loss near zero is what is left of larger terms that cancel.
        blow_up: a loss so many times the largest of the golden counts as divergence.
        rate: deviation of a scheduled learning rate, relative to the largest of its sequence: an ulp of another
            mathematical library's cosine grows to 4e-11 in a thousand updates of cosine annealing.
    """

    margin: float = 10.0
    generous: float = 1000.0
    free: float = 1e-9
    floor_ulps: float = 4.0
    height_ulps: float = 1.0
    blow_up: float = 1e3
    rate: float = 1e-9

    def envelope(self, measured: float, dtype: Dtype, share: float = 1.0) -> float:
        """The envelope that counts: `measured`, but never below the floor of `dtype`.

        Args:
            measured: the stored envelope.
            dtype: of the run.
            share: of a value in the largest loss of its curve; 1 for a norm.
        """
        eps = EPS[dtype]
        return max(measured, self.floor_ulps * eps, self.height_ulps * eps / share)

    def tolerance(self, measured: float, dtype: Dtype, share: float = 1.0) -> float:
        """The largest relative deviation that still matches; arguments as of `envelope`."""
        envelope = self.envelope(measured, dtype, share)
        return max(self.margin * envelope, min(self.generous * envelope, self.free))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one case.

    Attributes:
        kind: see `KINDS`.
        note: what else there is to say, in one line.
        first_step: updates made when loss or a tensor was first outside; None if never.
        envelopes: by how many envelopes it was.
        deviation: the relative deviation then.
        largest: the largest relative deviation of the loss (inf for a NaN).
        largest_step: where that was.
        tensor: the tensor whose norm left first; None where no kept norm left.
        tensor_step: when, as far as the kept steps tell.
        final_old: last loss of the golden.
        final_new: last loss of the run; None where there is none.
        details: what a step costs more, or less, than it did; a line each.
        cause: what may have happened to the optimizer, in one line; empty where nothing is known.
    """

    kind: Kind
    note: str = ""
    first_step: int | None = None
    envelopes: float | None = None
    deviation: float | None = None
    largest: float | None = None
    largest_step: int | None = None
    tensor: str | None = None
    tensor_step: int | None = None
    final_old: float | None = None
    final_new: float | None = None
    details: tuple[str, ...] = ()
    cause: str = ""


class Deviation(NamedTuple):
    """How far a run lies from one point of a curve.

    Attributes:
        tensor: whose norm it is; None for the loss.
        point: the point.
        relative: the relative deviation; None where the run did not get so far.
        share: of the point in the largest loss of the curve, what deviations are relative to; 1 for a norm.
    """

    tensor: str | None
    point: Point
    relative: float | None
    share: float


class _Excess(NamedTuple):
    """One value outside its tolerance."""

    step: int
    envelopes: float
    deviation: float
    tensor: str | None


def precheck(golden: Golden | None, *, exists: bool, digest: str, dtype: Dtype, route: str = PLAIN) -> Verdict | None:
    """The verdict that needs no training: ``missing`` or ``stale``; None where the golden can judge a run.

    Args:
        golden: what the store gave.
        exists: whether there is a file; one without a readable golden is of an older schema.
        digest: of the reference model as it is now.
        dtype: of the case.
        route: of the case.
    """
    if golden is None:
        return Verdict("stale", "the golden is of an older schema") if exists else Verdict("missing", "no golden")
    if golden.workload.digest != digest:
        return Verdict(
            "stale",
            f"the golden was recorded on another {golden.workload.name} "
            f"(digest {golden.workload.digest}, now {digest})",
        )
    if dtype not in golden.curves:
        return Verdict("missing", f"the golden holds no {dtype} curve, only {', '.join(golden.curves)}")
    if route not in (PLAIN, *golden.routes):
        return Verdict("missing", f"the golden was recorded without the route {route}")
    return None


def judge(run: Run, golden: Golden, policy: Policy) -> Verdict:
    """Compare `run` with the curve of its dtype and route in `golden`, and its laws with those that held then.

    The golden must have passed `precheck`, and hold a curve for the run's route.
    """
    curve = golden.reference(run.dtype, run.route)
    if curve is None:
        raise ValueError(f"{golden.spec} on {golden.workload.name} holds no curve for {run.dtype}, {run.route}")
    losses = [
        (found.relative, found.point.step)
        for found in deviations(run, curve)
        if found.tensor is None and found.relative is not None
    ]
    largest = max(losses, default=(None, None))
    outside = sorted(_outside(run, curve, policy), key=lambda found: (found.step, -found.envelopes))
    first = outside[0] if outside else None
    tensor = next((found for found in outside if found.tensor is not None), None)
    kind, note = _kind(run, curve, policy, changed=bool(outside))
    rate = _first_other_rate(run, golden, policy)
    if kind in ("match", "changed") and rate is not None:
        kind, note = "changed", rate
    law = _lost_law(run, golden)
    if kind == "match" and law:
        kind = "lost"
    note = note or law
    ended = run.failure.step if run.failure is not None and kind in ("lost", "diverged") else None
    return Verdict(
        kind,
        note,
        first_step=first.step if first else ended,
        envelopes=first.envelopes if first else None,
        deviation=first.deviation if first else None,
        largest=largest[0],
        largest_step=largest[1],
        tensor=tensor.tensor if tensor else None,
        tensor_step=tensor.step if tensor else None,
        final_old=curve.losses[-1].value,
        final_new=run.losses[-1] if run.losses else None,
    )


def _kind(run: Run, curve: Curve, policy: Policy, *, changed: bool) -> tuple[Kind, str]:
    failure = run.failure
    if failure is not None and failure.kind == "raised":
        where = f"update {failure.step}" if failure.step else "construction"
        return "lost", f"{where} raised {failure.message}"
    if failure is not None and not _declared(failure, curve):
        return "diverged", f"{failure.message} after update {failure.step}"
    if failure is None and curve.diverges is not None:
        return (
            "changed",
            f"the golden leaves the finite numbers after update {curve.diverges[0]}, this run does not",
        )
    height = max(abs(point.value) for point in curve.losses)
    if max(map(abs, run.losses), default=0.0) > policy.blow_up * height and changed:
        return "diverged", f"the loss grew to more than {policy.blow_up:g} times the golden's largest"
    return ("changed", "") if changed else ("match", "")


def _lost_law(run: Run, golden: Golden) -> str:
    """The first law that the run breaks and that the optimizer kept when it was recorded."""
    known = {**golden.broken.get(PLAIN, {}), **golden.broken.get(run.route, {})}
    return next((f"law {law}: {how}" for law, how in run.broken.items() if law not in known), "")


def _first_other_rate(run: Run, golden: Golden, policy: Policy) -> str | None:
    """Where the learning rate of a group first departs from the golden's, also beyond the last update."""
    failed = run.failure is not None
    if len(run.rates) != len(golden.rates):
        return None if failed else f"{len(run.rates)} groups are scheduled, the golden has {len(golden.rates)}"
    for group, (found, expected) in enumerate(zip(run.rates, golden.rates, strict=True)):
        for updates, (now, then) in enumerate(zip(found, expected, strict=False)):
            if not abs(now - then) <= policy.rate * max(map(abs, expected)):
                return f"the learning rate of group {group} is {now!r} after {updates} updates, the golden has {then!r}"
        if len(found) != len(expected) and not failed:
            return f"the schedule of group {group} ends after {len(found)} updates, the golden's after {len(expected)}"
    return None


def _declared(failure: Failure, curve: Curve) -> bool:
    """Whether the golden, too, leaves the finite numbers at that update, give or take what rounding shifts."""
    return curve.diverges is not None and curve.diverges[0] <= failure.step <= curve.diverges[1]


def _outside(run: Run, curve: Curve, policy: Policy) -> Iterator[_Excess]:
    """Every kept loss and norm outside its tolerance; what the run should have reached and did not is, too."""
    failure = run.failure
    end = failure.step if failure is not None and _declared(failure, curve) else math.inf
    for tensor, point, found, part in deviations(run, curve):
        if point.step >= end or (failure is not None and found is None):
            continue
        distance = math.inf if found is None else found
        if not distance <= policy.tolerance(point.envelope, run.dtype, part):  # so written, a NaN is outside too
            yield _Excess(point.step, distance / policy.envelope(point.envelope, run.dtype, part), distance, tensor)


def deviations(run: Run, curve: Curve) -> Iterator[Deviation]:
    """How far `run` lies from every point of `curve`: losses first, then norms, tensor by tensor."""
    series: list[tuple[str | None, Sequence[Point], Mapping[int, float]]] = [
        (None, curve.losses, dict(enumerate(run.losses))),
        *((name, points, run.norms.get(name, {})) for name, points in curve.norms.items()),
    ]
    for tensor, points, observed in series:
        largest = max(abs(point.value) for point in points)
        for point in points:
            value = observed.get(point.step)
            part = 1.0 if tensor is not None else share(point.value, largest)
            yield Deviation(tensor, point, None if value is None else deviation(value, point.value, largest), part)
