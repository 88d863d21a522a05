"""False alarms and detections of the two timing gates, and of three common tests on the same samples.

Every comparison is one that the plugin would make: of a step's ratio to the control with the golden's, and of a step
with the same step of a base revision, in processes of their own. Between equals every alarm is false; then the new
side's step is made 5, 10 and 20 % longer, by a busy wait for that share of what it took. All of it on a machine left
alone, and again while other processes compute on every core. One comparison runs at a time: two would be each other's
load.

The common tests are given the step's own seconds: against the base revision those of both sides, for a golden those of
its recording and those of now.

    python benchmarks/speed_power.py [--comparisons 400] [--detections 100] [--optimizers Adam SGD]
        [--percents 0 5 10 20] [--conditions idle loaded] [--gates control base] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import Figures, add_json_option, finish
from pytest_optcheck.conditions import NOTHING
from pytest_optcheck.cost import control, sides, stopwatch, versus
from pytest_optcheck.cost.clock import clock
from pytest_optcheck.cost.stopwatch import Sample
from pytest_optcheck.specs import FactorySpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from pytest_optcheck.cost.figures import Timing

OPTIMIZERS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "SGD": partial(torch.optim.SGD, lr=0.01),
    "Adam": partial(torch.optim.Adam, lr=0.001),
    "Adam fused": partial(torch.optim.Adam, lr=0.001, fused=True),
    "Adafactor": partial(torch.optim.Adafactor, lr=0.01),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.001),
    "Rprop": partial(torch.optim.Rprop, lr=0.001),
}

PERCENTS = (0, 5, 10, 20)
"""By which the new side's step is made longer, where nothing else is asked for."""

PROCESSES = 16
"""The comparisons with a control are spread over so many processes, so that none of them stands for all."""

MEANS = 1.30
LEVEL = 0.05
"""What the common tests call slower: means that differ by 30 %; a one-sided p-value below 5 %."""

RIVALS = ("±30 %", "t-test", "M-W")


@dataclass(slots=True)
class Tally:
    """What came of the comparisons of one optimizer, one gate, one condition, one percentage.

    Attributes:
        answers: of the gate, how often each.
        rivals: how often each common test said slower.
        seconds: each comparison took.
        middles: the ratio that each comparison found.
    """

    answers: Counter[str] = field(default_factory=Counter)
    rivals: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    middles: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """What one comparison came to; as of `Tally`."""

    answer: str
    seconds: float
    ratio: float | None = None
    rivals: tuple[str, ...] = ()


def main() -> None:
    """Compare, print row by row, sum up."""
    options = _options()
    sides.accepted(spec("SGD", 0), NOTHING, "cpu")  # the first optimizer imports as much of torch again
    gc.collect()
    gc.freeze()  # a collection in a twin looks at its own objects alone
    tallies: dict[tuple[str, str, str, int], Tally] = {}
    print(f"{'':8}{'':12}{'':8}{'slower':>8}{'asked':>7}{'slower':>8}{'not':>6}{'unclear':>8}", end="")
    print("".join(f"{name:>8}" for name in RIVALS) + f"{'median s':>10}{'most s':>8}{'ratios':>18}", flush=True)
    counts = {percent: options.detections if percent else options.comparisons for percent in options.percents}
    recordings: dict[str, Recording | str] = {}
    if "control" in options.gates:
        recordings = {name: _elsewhere(_recorded, name) for name in options.optimizers}
    for condition in options.conditions:
        with loaded() if condition == "loaded" else contextlib.nullcontext():
            for name, gate in product(options.optimizers, options.gates):
                base = gate == "base"
                found = _with_base(name, counts) if base else _with_control(name, counts, recordings[name])
                for percent, one in found:
                    tally = tallies.setdefault((condition, name, gate, percent), Tally())
                    _note(tally, one)
                    if len(tally.seconds) == counts[percent]:
                        _print(condition, name, gate, percent, tally)
    finish(_figures(tallies), options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--comparisons", type=int, default=400, metavar="N", help="of equals (default: 400)")
    parser.add_argument("--detections", type=int, default=100, metavar="N", help="of each slow-down (default: 100)")
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS), metavar="NAME")
    parser.add_argument("--percents", nargs="+", type=int, default=PERCENTS, metavar="P", help="0 5 10 20")
    parser.add_argument("--conditions", nargs="+", choices=("idle", "loaded"), default=["idle", "loaded"])
    parser.add_argument("--gates", nargs="+", choices=("control", "base"), default=["control", "base"])
    add_json_option(parser)
    return parser.parse_args()


def _note(tally: Tally, found: Found) -> None:
    tally.answers[found.answer] += 1
    tally.rivals.update(found.rivals)
    tally.seconds.append(found.seconds)
    if found.ratio is not None:
        tally.middles.append(found.ratio)


def _print(condition: str, name: str, gate: str, percent: int, tally: Tally) -> None:
    asked = sum(tally.answers.values())
    widths = {"slower": 8, "not slower": 6, "cannot tell": 9}
    answers = "".join(f"{tally.answers[answer]:{width}}" for answer, width in widths.items())
    rivals = "".join(f"{tally.rivals[rival]:8}" for rival in RIVALS)
    ratios = f"{min(tally.middles):.3f} to {max(tally.middles):.3f}" if tally.middles else ""
    seconds = f"{statistics.median(tally.seconds):10.2f}{max(tally.seconds):8.2f}" if asked else ""
    print(f"{condition:8}{name:12}{gate:8}{percent:6} %{asked:7}{answers}{rivals}{seconds}{ratios:>18}", flush=True)


def _figures(tallies: dict[tuple[str, str, str, int], Tally]) -> Figures:
    """The worst optimizer's, for the base gate; both conditions apart, the idle one in front."""
    figures: Figures = {}
    for gate, prefix in (("base", ""), ("control", "control_")):
        for condition, suffix in (("idle", ""), ("loaded", "_loaded")):
            for percent in sorted({percent for *_, percent in tallies}):
                found = [t for (c, _, g, p), t in tallies.items() if (c, g, p) == (condition, gate, percent)]
                slower = [tally.answers["slower"] for tally in found]
                if slower:
                    name = f"detected_{percent}" if percent else "false_alarms"
                    figures[f"{prefix}{name}{suffix}"] = min(slower) if percent else max(slower)
    return figures


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Keep every core busy during the block, one process each, with arithmetic and with memory beyond the caches."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_compute, daemon=True) for _ in os.sched_getaffinity(0)]
    for process in processes:
        process.start()
    time.sleep(3.0)  # they import torch first
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _compute() -> None:
    torch.set_num_threads(1)
    small, large = torch.rand(256, 256), torch.rand(4_000_000)
    while True:
        for _ in range(20):
            small = (small @ small).clamp_(-1, 1)
        large.mul_(0.999).add_(0.001)


def spec(name: str, percent: int) -> FactorySpec:
    """An optimizer whose step takes so much longer."""

    def build(params: Iterable[Any]) -> Any:  # noqa: ANN401 - an optimizer
        optimizer = OPTIMIZERS[name](params)
        if percent:
            optimizer.step = _longer(optimizer.step, percent / 100)
        return optimizer

    return FactorySpec(name, build)


def _longer(step: Callable[[], object], share: float) -> Callable[[], None]:
    def longer() -> None:
        started = time.perf_counter()
        step()
        end = started + (time.perf_counter() - started) * (1 + share)
        while time.perf_counter() < end:
            pass

    return longer


def _elsewhere(work: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - whatever the work returns
    """Do the work in a process of its own, and return what it returned."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(work, arguments)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a golden's step was timed at.

    Attributes:
        timing: as the golden keeps it.
        step_s: every sample of the step that it was taken from, which the common tests would keep.
    """

    timing: Timing
    step_s: list[float]


@contextlib.contextmanager
def _overheard() -> Iterator[list[float]]:
    """The samples of the step under judgement that `control` takes during the block; they appear as it goes on."""
    step_s: list[float] = []

    def block(*arguments: Any) -> stopwatch.Samples:  # noqa: ANN401 - of `stopwatch.block`
        samples = stopwatch.block(*arguments)
        step_s.extend(sample.step_s for sample in samples[0])
        return samples

    with mock.patch.object(control, "block", block):
        yield step_s


def _recorded(name: str) -> Recording | str:
    try:
        with _overheard() as step_s:
            return Recording(control.against_control(spec(name, 0), NOTHING, "cpu"), step_s)
    except control.NoTimingError as error:
        return str(error)


def _with_control(name: str, counts: dict[int, int], recording: Recording | str) -> Iterator[tuple[int, Found]]:
    """Comparisons of a step's ratio to the control with a recorded one."""
    if isinstance(recording, str):
        print(f"{name} could not be recorded: {recording}")
        yield from ((percent, Found("cannot tell", 0.0)) for percent, count in counts.items() for _ in range(count))
        return
    for part in range(PROCESSES):
        shares = {percent: len(range(part, count, PROCESSES)) for percent, count in counts.items()}
        if any(shares.values()):
            yield from _elsewhere(_some_with_control, name, shares, recording)


def _some_with_control(name: str, counts: dict[int, int], recording: Recording) -> list[tuple[int, Found]]:
    sides.accepted(spec(name, 0), NOTHING, "cpu")  # what the first optimizer imports is no part of a comparison
    found = []
    for percent in (percent for percent, count in counts.items() for _ in range(count)):
        started = time.perf_counter()
        try:
            with _overheard() as step_s:
                decision = control.compare(spec(name, percent), NOTHING, "cpu", [recording.timing]).decision
        except control.NoTimingError:
            found.append((percent, Found("cannot tell", time.perf_counter() - started)))
        else:
            seconds, rivals = time.perf_counter() - started, _rivals(step_s, recording.step_s)
            found.append((percent, Found(decision.answer, seconds, decision.ratio, tuple(rivals))))
    return found


class Twin:
    """A side in a process that was forked from the same one as all others, as the plugin's own are.

    Attributes:
        samples: all that it was asked for.
    """

    def __init__(self, name: str, percent: int) -> None:
        """Fork it."""
        context = multiprocessing.get_context("fork")
        self.samples: list[Sample] = []
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, percent), daemon=True)
        self._process.start()
        theirs.close()

    def fresh(self) -> float:
        """As of `stopwatch.Side`."""
        return float(self._ask("fresh"))

    def sample(self, steps: int) -> Sample:
        """As of `stopwatch.Side`."""
        self.samples.append(Sample(*self._ask("sample", steps)))
        return self.samples[-1]

    def leave(self) -> None:
        """As of `stopwatch.Side`."""
        self._ask("leave")

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
        self._channel.close()

    def _ask(self, *words: object) -> Any:  # noqa: ANN401 - what the side returns
        self._channel.send(words)
        return self._channel.recv()


def _serve(channel: Connection, name: str, percent: int) -> None:
    subject = spec(name, percent)
    with sides.settled("cpu", NOTHING), contextlib.suppress(EOFError):
        side = sides.side(subject, NOTHING, "cpu", sides.accepted(subject, NOTHING, "cpu"))
        while True:
            word, *arguments = channel.recv()
            channel.send(getattr(side, word)(*arguments))


@dataclass(slots=True)
class Meeting:
    """The twins of one comparison.

    Attributes:
        name: of the optimizer.
        percent: by which the new side's step is longer.
        twins: all that took part: the new side, the old, the old again; and once more where a second look was taken.
        seconds: that blocks were timed for.
    """

    name: str
    percent: int
    twins: list[Twin] = field(default_factory=list)
    seconds: float = 0.0

    @contextlib.contextmanager
    def company(self) -> Iterator[Sequence[Twin]]:
        """Three more twins."""
        made = [Twin(self.name, percent) for percent in (self.percent, 0, 0)]
        self.twins += made
        for twin in made:  # what a process imports when it begins is no part of the comparison
            twin.fresh()
            twin.leave()
        started = time.perf_counter()
        try:
            yield made
        finally:
            self.seconds += time.perf_counter() - started
            for twin in made:
                twin.end()

    def step_s(self, position: int) -> list[float]:
        """All samples of a side, in the order of time."""
        return [sample.step_s for twin in self.twins[position::3] for sample in twin.samples]


def _with_base(name: str, counts: dict[int, int]) -> Iterator[tuple[int, Found]]:
    """Comparisons of a new side's step with an old one's, in other processes each time."""
    for percent in (percent for percent, count in counts.items() for _ in range(count)):
        meeting = Meeting(name, percent)
        try:
            decision = versus.compare(meeting.company, meeting.company, clock("cpu"))
        except control.NoTimingError:
            yield percent, Found("cannot tell", meeting.seconds)
        else:
            news, olds = meeting.step_s(0), meeting.step_s(1)
            # Consecutive windows: the old side's first half of the time, the new side's second half.
            windows = news[len(news) // 2 :], olds[: len(olds) // 2]
            yield percent, Found(decision.answer, meeting.seconds, decision.ratio, tuple(_rivals(news, olds, windows)))


def _rivals(
    news: Sequence[float], olds: Sequence[float], windows: tuple[Sequence[float], Sequence[float]] | None = None
) -> Iterator[str]:
    """The common tests that call the new side slower, by the samples of it and of one old side.

    Args:
        news: seconds a step.
        olds: of the old side.
        windows: what of both the last test sees; all, where they were taken one after the other.
    """
    from scipy import stats  # type: ignore[import-untyped] # at the top every process would import it

    if statistics.mean(news) > MEANS * statistics.mean(olds):
        yield RIVALS[0]
    if stats.ttest_ind(news, olds, equal_var=False, alternative="greater").pvalue < LEVEL:
        yield RIVALS[1]
    if stats.mannwhitneyu(*(windows or (news, olds)), alternative="greater").pvalue < LEVEL:
        yield RIVALS[2]


if __name__ == "__main__":
    main()
