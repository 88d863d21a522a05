"""Which files of ``torch.optim`` are altered, in which groups they are reported, and what is left out of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.mutating.walking import alterations, matching

if TYPE_CHECKING:
    from types import CodeType

    from benchmarks.mutating.places import Alteration

PACKAGE = "torch.optim"
OPTIMIZERS, SCHEDULERS = "optimizers", "schedulers"

EVERYWHERE = ("*.__repr__",)
"""Functions that are altered in no file: what an object looks like in print."""


@dataclass(frozen=True)
class File:
    """One module.

    Attributes:
        name: of the module, without its package.
        group: in which it is reported.
        only: patterns of the functions that are altered, by dotted name; none for all of them.
        without: patterns of functions that are not, beside those of `EVERYWHERE`.
    """

    name: str
    group: str = OPTIMIZERS
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Its dotted name."""
        return f"{PACKAGE}.{self.name}"

    @cached_property
    def path(self) -> Path:
        """Where the installed one is; it is only read."""
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            raise LookupError(f"this torch has no {self.module}")
        return Path(spec.origin)

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree, which alterations are applied to: in a process that ends with them."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def original(self) -> CodeType:
        """The tree, compiled before anything was altered."""
        return self.code()

    @cached_property
    def instructions(self) -> frozenset[int]:
        """Every line that an instruction of it has."""
        return _lines(self.original)

    def code(self) -> CodeType:
        """The tree as it is now, compiled."""
        return compile(self.tree, str(self.path), "exec", dont_inherit=True)

    def alterations(self) -> list[Alteration]:
        """Every one, in the order of the file."""
        return list(alterations(self.tree, self._wanted))

    def _wanted(self, function: str) -> bool:
        if self.only and not matching(function, self.only):
            return False
        return not matching(function, (*EVERYWHERE, *self.without))


FILES: tuple[File, ...] = (
    *(File(name) for name in ("_adafactor", "_functional", "_muon", "adadelta", "adagrad", "adam", "adamax", "adamw")),
    *(File(name) for name in ("asgd", "lbfgs", "nadam")),
    # Of the base class what handles parameters and state; hooks are their users' code, and nobody registers one here.
    File("optimizer", without=("register_*", "Optimizer.register_*", "_RequiredParameter")),
    *(File(name) for name in ("radam", "rmsprop", "rprop", "sgd", "sparse_adam")),
    File("lr_scheduler", SCHEDULERS),
    File("swa_utils", SCHEDULERS, only=("SWALR",)),
)
"""What is altered."""


def same(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same, instruction by instruction; line numbers do not count."""
    fields = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_exceptiontable")
    if any(getattr(one, field) != getattr(other, field) for field in fields):
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    return all(_same_constant(a, b) for a, b in zip(one.co_consts, other.co_consts, strict=True))


def _lines(code: CodeType) -> frozenset[int]:
    inner = (constant for constant in code.co_consts if hasattr(constant, "co_lines"))
    own = {line for _, _, line in code.co_lines() if line is not None}
    return frozenset(own).union(*map(_lines, inner))


def _same_constant(one: object, other: object) -> bool:
    if hasattr(one, "co_code") and hasattr(other, "co_code"):
        return same(one, other)  # type: ignore[arg-type] # nothing else has such code
    return repr(one) == repr(other)  # 0 and False are equal, and not the same
