"""Learning-rate schedulers: specs of them, read from text, and those of one optimizer, stepped after every update.

Importing waits until they are built, so that parsing works where torch must not be imported.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_optcheck import calls
from pytest_optcheck.errors import OptcheckError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Attach = Callable[[Any], list[Any]]
"""Takes an optimizer, returns the schedulers built for it."""

TORCH = "torch.optim.lr_scheduler"
"""Where a name without dots is looked up."""


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """The dotted name of a callable, as ``my_package.schedules.halve``."""

    name: str

    def __repr__(self) -> str:
        """The text it is written as."""
        return self.name


@dataclass(frozen=True, slots=True, repr=False)
class SchedulerSpec:
    """``name(keyword=value, …)``, keywords sorted.

    Attributes:
        name: of a class or a factory; without dots it is one of `torch.optim.lr_scheduler`.
        keywords: (keyword, value) pairs, sorted; values are Python literals, `SchedulerSpec`, `Reference`, and
            lists and tuples of them.
    """

    name: str
    keywords: calls.Keywords = field(default=(), hash=False)  # values may be lists

    @property
    def text(self) -> str:
        """Canonical text: the same scheduler always gives the same text, however it was written."""
        return calls.written(self.name, self.keywords)

    def __repr__(self) -> str:
        """The canonical text, so that a list of specs prints as it is written."""
        return self.text

    def factory(self) -> Callable[[Any], Any]:
        """The callable that builds the scheduler for an optimizer; all it names is imported and checked now.

        Schedulers among the arguments are built first, for the same optimizer.

        Raises:
            OptcheckError: something it names is not there, or a signature does not take the keywords.
        """
        subject, kind = f"scheduler {self.text}", "a class or a factory"
        if "." in self.name:
            target = calls.find_dotted(subject, self.name, kind)
        else:
            target = calls.find(subject, TORCH, self.name, kind)
        # ChainedScheduler takes its optimizer second, and some schedulers name theirs otherwise
        given = "optimizer" if calls.has_keyword(target, "optimizer") else None
        calls.check(subject, self.name, target, dict(self.keywords), given)
        makers = {keyword: _maker(subject, value) for keyword, value in self.keywords}

        def build(optimizer: Any) -> Any:  # noqa: ANN401 - optimizers and schedulers are what behaves like one
            arguments = {keyword: make(optimizer) for keyword, make in makers.items()}
            return target(optimizer=optimizer, **arguments) if given else target(optimizer, **arguments)

        return build


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedulers of one optimizer, stepped together after every update, in their order."""

    schedulers: tuple[Any, ...] = ()

    def step(self, loss: float) -> None:
        """Step every scheduler once; those of torch's `ReduceLROnPlateau` kind are given the loss."""
        if not self.schedulers:
            return
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        for scheduler in self.schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(loss)
            else:
                scheduler.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """A copy of every scheduler's state: their own dicts go on changing with them."""
        return [copy.deepcopy(scheduler.state_dict()) for scheduler in self.schedulers]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Give every scheduler its state.

        Build the optimizer, then the schedulers, and only then load both: building a scheduler sets learning rates.
        """
        for scheduler, state in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(copy.deepcopy(state))


def current(optimizer: Any) -> tuple[float, ...]:  # noqa: ANN401 - optimizers are what behaves like one
    """The learning rate of each parameter group, of those that have one."""
    return tuple(float(group["lr"]) for group in optimizer.param_groups if group.get("lr") is not None)


def split(built: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401 - see current
    """What a factory made, as optimizer and schedulers: it may return either ``optimizer`` or both in a tuple.

    Raises:
        TypeError: a tuple of another form.
    """
    if not isinstance(built, tuple):
        return built, []
    match built:
        case (optimizer, list() | tuple() as schedulers):
            return optimizer, list(schedulers)
    kinds = ", ".join(type(part).__name__ for part in built)
    raise TypeError(f"the factory made a tuple ({kinds}), not an optimizer or (optimizer, [scheduler, …])")


def read(subject: str, node: ast.expr) -> SchedulerSpec:
    """Read ``name`` or ``name(keyword=value, …)``; a list of schedulers may stand without ``schedulers=``.

    Args:
        subject: whose scheduler it is; begins every message.
        node: what was written.

    Raises:
        OptcheckError: it has another shape, or an argument is not what `SchedulerSpec` takes.
    """
    call = calls.read(node)
    if call is None:
        raise OptcheckError(f"{subject}: expected a scheduler, as StepLR(step_size=30), not {ast.unparse(node)}")
    name, args, keywords = call
    match args:
        case [ast.List(elts=[ast.Call(), *_] as children)] if all(isinstance(child, ast.Call) for child in children):
            args, keywords = [], [ast.keyword("schedulers", args[0]), *keywords]

    def value(keyword: str, node: ast.expr) -> Any:  # noqa: ANN401 - see SchedulerSpec.keywords
        match node:
            case ast.List():
                return [value(keyword, item) for item in node.elts]
            case ast.Tuple():
                return tuple(value(keyword, item) for item in node.elts)
            case ast.Call():
                return read(subject, node)
            case ast.Attribute():
                reference = calls.dotted(node)
                if reference is not None:
                    return Reference(reference)
        return calls.literal(subject, keyword, node, "a callable is named with its module, as my_package.module.name")

    return SchedulerSpec(name.removeprefix(f"{TORCH}."), calls.keyword_values(subject, args, keywords, value))


def attach(specs: Iterable[SchedulerSpec]) -> Attach:
    """The callable that builds the schedulers for an optimizer; all they name is imported and checked now.

    Raises:
        OptcheckError: as `SchedulerSpec.factory`.
    """
    factories = [spec.factory() for spec in specs]
    return lambda optimizer: [build(optimizer) for build in factories]


def _maker(subject: str, value: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - see SchedulerSpec.keywords
    """What gives an argument's value for an optimizer: imports now, builds then."""
    match value:
        case SchedulerSpec():
            return value.factory()
        case Reference():
            target = calls.find_dotted(subject, value.name, "a callable")
            return lambda _optimizer: target
        case list() | tuple():
            makers = [_maker(subject, item) for item in value]
            return lambda optimizer: type(value)(make(optimizer) for make in makers)
    return lambda _optimizer: value
