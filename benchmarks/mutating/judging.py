"""One alteration judged: is it killed, by which case, or does it survive; in a process that ends with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks.mutating import naive
from benchmarks.mutating.files import same
from benchmarks.mutating.forks import HANGS, limited
from benchmarks.mutating.naive import Rules
from pytest_optcheck.errors import FOREIGN, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.mutating.files import File
    from benchmarks.mutating.forks import Send
    from benchmarks.mutating.hosting import Host
    from benchmarks.mutating.naive import NaiveTest
    from benchmarks.mutating.places import Alteration
    from benchmarks.mutating.trying import Cases

KILLED, SURVIVED, EQUIVALENT, UNREACHABLE = OUTCOMES = ("killed", "survived", "equivalent", "unreachable")
"""What may become of a mutant."""

RAISES, HANGING, CRASHES = "raises", "hangs", "crashes"
"""How one is killed without a verdict: on import or construction, by taking too long, by ending the process."""

CASE_S, CASE_FACTOR = 10.0, 20.0
"""What a case may take of the processor's time: seconds, and so many times what it took on the unaltered package."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """An alteration and what it is tried with.

    Attributes:
        file: that it is in.
        alteration: what is altered.
        before: the statement.
        after: the altered one.
        cases: numbers of those that run it, those to be tried first at the beginning.
        tests: the naive tests of what the file is about.
    """

    file: File
    alteration: Alteration
    before: str
    after: str
    cases: Sequence[int]
    tests: Sequence[NaiveTest]

    @property
    def where(self) -> str:
        """File and line, function."""
        return f"{self.file.name}.py:{self.alteration.line} {self.alteration.site.function or '(module)'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        kind: one of `OUTCOMES`.
        by: the verdict that killed it, or `RAISES`, `HANGING`, `CRASHES`; the reason where it is not to be killed.
        case: the number of the case that did.
        note: what that case said.
        tried: how many cases there were, up to the last.
        rules: what the naive tests say; None where they were not asked.
    """

    kind: str
    by: str = ""
    case: int | None = None
    note: str = ""
    tried: int = 0
    rules: Rules | None = None


def judge(mutant: Mutant, host: Host, cases: Cases, cost_s: Mapping[int, float], send: Send) -> None:
    """Alter, execute, try case after case until one fails, then the naive tests; send what happens as it does."""
    original = mutant.file.original  # before anything is altered
    mutant.alteration.apply()
    code = mutant.file.code()
    if same(code, original):
        send({"kind": EQUIVALENT, "by": "compiles to the same code"})
        return
    limited(CASE_S)
    try:
        host.execute({mutant.file.module: code})
    except FOREIGN as error:
        send({"kind": KILLED, "by": RAISES, "note": one_line(error)})
        send({"rules": asdict(naive.BOTH)})
        return
    send(_tried(mutant, cases, cost_s, send))
    send({"rules": asdict(asked(mutant, cases))})


def _tried(mutant: Mutant, cases: Cases, cost_s: Mapping[int, float], send: Send) -> dict[str, Any]:
    for count, case in enumerate(mutant.cases, start=1):
        send({"case": case, "tried": count})
        limited(CASE_S + CASE_FACTOR * cost_s[case])
        said = cases.failing(case)
        if said is not None:
            return {"kind": KILLED, "by": RAISES if said.constructing else said.kind, "note": said.note}
    return {"kind": SURVIVED, "case": None}


def asked(mutant: Mutant, cases: Cases) -> Rules:
    """What the naive tests say of the package as it is now."""
    limited(CASE_S * (1 + len(mutant.tests)))
    return naive.failing(mutant.tests, cases)


def outcome(messages: Sequence[Mapping[str, Any]], code: int) -> Outcome:
    """What the messages of `judge` say, and its process's exit code where it could not say the last word."""
    said: dict[str, Any] = {}
    for message in messages:
        said.update(message)
    rules = Rules(**said.pop("rules")) if "rules" in said else None
    if "kind" not in said:
        said |= {"kind": KILLED, "by": HANGING if code == HANGS else CRASHES, "note": f"exit code {code}"}
    elif rules is None and said["kind"] in (KILLED, SURVIVED):
        rules = naive.BOTH  # the process ended in a naive training, so no test of its would have passed
    return Outcome(**said, rules=rules)


def ask(mutant: Mutant, host: Host, cases: Cases, send: Send) -> None:
    """The naive tests alone, for a mutant whose process did not live to make them."""
    mutant.alteration.apply()
    limited(CASE_S)
    host.execute({mutant.file.module: mutant.file.code()})
    send({"rules": asdict(asked(mutant, cases))})


def with_rules(found: Outcome, messages: Sequence[Mapping[str, Any]]) -> Outcome:
    """`found` with what `ask` said; where that did not end either, both tests fail."""
    return replace(found, rules=Rules(**messages[0]["rules"]) if messages else naive.BOTH)
