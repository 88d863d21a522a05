"""Which cases a session has: of configured and of discovered optimizers. Knows neither pytest nor the terminal."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_optcheck.cases import BASE, COUNTS, SELFTEST, TIMING, Case, Scope
from pytest_optcheck.checking import guarded_routes
from pytest_optcheck.curves import DTYPES
from pytest_optcheck.errors import OptcheckError
from pytest_optcheck.goldens import Goldens
from pytest_optcheck.roster import Rosters
from pytest_optcheck.specs import parse
from pytest_optcheck.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_optcheck.curves import Dtype
    from pytest_optcheck.format import Golden
    from pytest_optcheck.settings import Settings
    from pytest_optcheck.specs import TextSpec


class Listing:
    """The cases that the settings ask for, by what the stored goldens hold."""

    def __init__(self, settings: Settings) -> None:
        """Goldens are read as they are asked for."""
        self._settings = settings
        self._store = Goldens(settings.curves)

    def cases(self, discovered: Sequence[Target]) -> list[Case]:
        """Those of configured targets and of these; timed ones last, because each waits until nothing else runs."""
        settings = self._settings
        listed = self._against_base if settings.base else self._selftests if settings.selftest else self._usual
        return sorted(listed(discovered), key=lambda case: case.route == TIMING)

    def dtypes(self, scope: Scope, golden: Golden | None = None) -> tuple[Dtype | None, ...]:
        """One case a dtype; one a golden where goldens are updated."""
        if self._settings.update:
            return (None,)
        if scope.implied and golden is not None and golden.routes.get("resume") == "same":
            return ()
        checked = scope.checked if golden is None or DTYPES[0] in golden.curves else DTYPES
        return tuple(dtype for dtype in scope.dtypes if dtype in self._settings.dtypes and dtype in checked)

    def discovered(self, module: str, specs: Iterable[TextSpec]) -> Iterator[Target]:
        """What is found in a module and not configured by name, where the roster does not say that it cannot be."""
        configured = {target.spec.text for target in self._settings.targets}
        roster = Rosters(self._settings.curves).load(module)
        for spec in specs:
            tried = self._settings.update
            asked = self._settings.only or self._settings.discovered_on
            names = [name for name in asked if tried or not roster.refuses(spec.text, name)]
            if names and spec.text not in configured:
                yield Target(spec, tuple(names), module, among=self._settings.discovered_on)

    def _usual(self, discovered: Sequence[Target]) -> Iterator[Case]:
        """Those of every target, costly workloads first, so that parallel workers end together."""
        targets = (*self._settings.targets, *discovered)
        configured = {target.spec.text for target in targets}
        seen: set[tuple[str, str]] = set()
        for name in reversed(list(self._settings.known)):
            for target in targets:
                if name not in target.workloads:
                    continue
                golden = self._golden(target.spec, name)
                for case in self._cases_of(target.spec, name, self._settings.scope(target, name), golden):
                    yield replace(case, discovered=target.discovered)
                for text in golden.variants if golden is not None and self._settings.variants != ("none",) else ():
                    if (text, name) not in seen and text not in configured:
                        seen.add((text, name))  # two specs may have one variant in common
                        variant = parse(text)
                        scope = self._settings.variant_scope
                        yield from self._cases_of(variant, name, scope, self._golden(variant, name))

    def _against_base(self, discovered: Sequence[Target]) -> Iterator[Case]:
        """One case an optimizer, on the cheapest of its reference models, where anything is asked that a base answers.

        Nothing is recorded, so it does not matter which reference models an option left out, and what was discovered is
        as good as what was configured.
        """
        for target in (*self._settings.targets, *discovered):
            name = min(target.workloads, key=list(self._settings.known).index)
            spec = shlex.quote(target.spec.text)
            select = f"--optcheck-base {shlex.quote(self._settings.base)} --optcheck-optimizer {spec}"
            if self._settings.only:
                select += f" --optcheck-workload {name}"
            scope = self._settings.scope(replace(target, among=(), discovered=""), name)
            scope = replace(scope, dtypes=DTYPES[:1] if DTYPES[0] in self.dtypes(scope) else ())
            if scope.dtypes or scope.counted or scope.timed:
                yield Case(target.spec, name, None, select, route=BASE, scope=scope, discovered=target.discovered)

    def _selftests(self, discovered: Sequence[Target]) -> Iterator[Case]:
        """One case an optimizer, on the cheapest of its reference models."""
        for target in (*self._settings.targets, *discovered):
            name = min(target.workloads, key=list(self._settings.known).index)
            select = f"--optcheck-optimizer {shlex.quote(target.spec.text)} --optcheck-workload {name}"
            scope = self._settings.scope(target, name)
            yield Case(target.spec, name, None, select, route=SELFTEST, scope=scope, discovered=target.discovered)

    def _cases_of(self, spec: TextSpec, workload: str, scope: Scope, golden: Golden | None) -> Iterator[Case]:
        """One case a dtype and one a route that the golden knows; one case where goldens are updated."""
        select = f"--optcheck-optimizer {shlex.quote(spec.text)} --optcheck-workload {workload}"
        only = f" --optcheck-route {scope.dtypes[0]}" if len(scope.dtypes) == 1 else ""
        for dtype in self.dtypes(scope, golden):
            yield Case(spec, workload, dtype, f"{select}{only}", scope=scope)
        for route in () if self._settings.update else guarded_routes(golden, scope.routes):
            yield Case(spec, workload, None, f"{select} --optcheck-route {route}", route=route, scope=scope)
        if scope.counted and golden is not None and not self._settings.update:
            yield Case(spec, workload, None, f"{select} --optcheck-route {COUNTS}", route=COUNTS, scope=scope)
        if scope.timed and (golden is not None or self._settings.update):
            yield Case(spec, workload, None, f"{select} --optcheck-route {TIMING}", route=TIMING, scope=scope)

    def _golden(self, spec: TextSpec, workload: str) -> Golden | None:
        """The stored golden; None also where it is no good, which the case itself will say."""
        with contextlib.suppress(OptcheckError):
            return self._store.load(spec.text, workload)
        return None
