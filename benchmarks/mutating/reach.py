"""Which case runs which line of ``torch.optim``: every case once, under coverage, on the package as it is."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import coverage

from benchmarks.mutating.files import FILES
from benchmarks.mutating.forks import each
from benchmarks.mutating.places import header_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.mutating.files import File
    from benchmarks.mutating.forks import Send
    from benchmarks.mutating.hosting import Host
    from benchmarks.mutating.places import Alteration, Span
    from benchmarks.mutating.trying import Cases

Lines = dict[str, dict[int, set[int]]]
"""Module -> line -> numbers of the cases that ran it."""


LIKELY = 10
"""Cases that are tried before one of every route is."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one pass over all cases found.

    Attributes:
        lines: who ran what.
        cost_s: seconds of processor time of every case.
        failing: cases that do not pass on the unaltered package, with what they say.
    """

    lines: Lines = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    cost_s: dict[int, float] = field(default_factory=dict)
    failing: dict[int, str] = field(default_factory=dict)

    def cases(self, file: File, alteration: Alteration) -> set[int]:
        """The cases that run a line of the node; of its statement, where no instruction has a line of the node's."""
        lines = _range(alteration.lines)
        statement = alteration.site.statement
        if statement is not None and not file.instructions & lines:
            lines = _range(header_lines(statement))
        ran = self.lines[file.module]
        return {case for line in lines for case in ran.get(line, ())}

    def of_file(self, file: File) -> set[int]:
        """The cases that run anything of `file`."""
        return {case for ran in self.lines[file.module].values() for case in ran}


def trace(host: Host, cases: Cases, jobs: int) -> Reach:
    """Try every case once, on the package executed anew but unaltered, and see what it runs and costs."""
    found = Reach()
    parts = [range(start, len(cases.all), jobs) for start in range(jobs)]

    def work(part: int, send: Send) -> None:
        send(_traced(host, cases, parts[part]))

    for ended in each(work, range(jobs), jobs):
        if not ended.messages:
            raise RuntimeError(f"the cases end their process with exit code {ended.code} on the unaltered package")
        lines, cost_s, failing = ended.messages[0]
        for module, ran in lines.items():
            for line, numbers in ran.items():
                found.lines[module][line] |= numbers
        found.cost_s.update(cost_s)
        found.failing.update(failing)
    return found


def ordered(cases: Cases, reach: Reach, numbers: Iterable[int]) -> list[int]:
    """Those most likely to end soon first, then one of every route, then all others; the cheapest before the dear."""
    known = sorted(numbers, key=lambda index: (cases.rank(index), reach.cost_s[index], index))
    likely, others = known[:LIKELY], known[LIKELY:]
    first: dict[tuple[str, str | None], int] = {}
    for index in others:
        first.setdefault((cases.all[index].route, cases.all[index].dtype), index)
    return list(dict.fromkeys((*likely, *first.values(), *others)))


def _traced(
    host: Host, cases: Cases, numbers: Sequence[int]
) -> tuple[Mapping[str, Mapping[int, set[int]]], dict[int, float], dict[int, str]]:
    measured = coverage.Coverage(
        data_file=None, config_file=False, include=[str(file.path) for file in FILES], messages=False
    )
    cost_s, failing = {}, {}
    measured.start()
    host.execute()
    for number in numbers:
        measured.switch_context(str(number))
        started_s = time.process_time()
        said = cases.failing(number)
        cost_s[number] = time.process_time() - started_s
        if said is not None:
            failing[number] = f"{said.kind}: {said.note}"
    measured.stop()
    data = measured.get_data()
    lines = {}
    for file in FILES:
        contexts = data.contexts_by_lineno(str(file.path))
        lines[file.module] = {line: {int(name) for name in names if name} for line, names in contexts.items()}
    return lines, cost_s, failing


def _range(span: Span) -> set[int]:
    first, last = span
    return set(range(first, last + 1))
