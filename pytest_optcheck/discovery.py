"""The optimizers of a package: its public ``torch.optim.Optimizer`` subclasses, each as a spec.

Looks at names and signatures only; what an optimizer needs to be trained is found by trying, see `needs`. Imports
torch when it is called.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_optcheck import calls, nesting
from pytest_optcheck.errors import FOREIGN, OptcheckError, one_line
from pytest_optcheck.specs import TextSpec, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

LENGTH = 100
"""Updates that a schedule inside an optimizer is told to plan for: about as many as a reference model makes."""

EXAMPLES = 1000
"""Examples in the data, as an optimizer is told that scales by them."""

BASE = "torch.optim:SGD(lr=0.01, momentum=0.9)"
"""What a wrapper is put around: it has state, and it passes on the size of a gradient, as Adam would not."""

GUESSES: Mapping[str, Any] = {
    "lr": 0.01,
    "learning_rate": 0.01,
    **dict.fromkeys(("num_iterations", "total_iterations", "max_iterations"), LENGTH),
    **dict.fromkeys(("num_steps", "total_steps", "max_steps", "num_training_steps"), LENGTH),
    **dict.fromkeys(("num_data", "num_examples", "dataset_size"), EXAMPLES),
    **dict.fromkeys(("optimizer", "base_optimizer", "inner_optimizer"), BASE),
    **dict.fromkeys(("optimizer_cls", "optimizer_class", "base_optimizer_cls", "base_optimizer_class"), BASE),
}
"""Name of a required parameter -> the value it gets where ``optcheck_arguments`` says nothing."""

NO_PART = frozenset({"__main__", "conftest", "setup", "test", "tests"})
"""Submodules that are no part of what a package offers."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a package holds.

    Attributes:
        specs: the optimizers that can be tried, sorted by text.
        left_out: ``module:name`` -> why it cannot, in one line; sorted.
    """

    specs: tuple[TextSpec, ...]
    left_out: Mapping[str, str]


def optimizers(module_name: str, arguments: Iterable[str] = ()) -> Discovered:
    """Find the public optimizers that `module_name` defines, required arguments filled in.

    Public is what ``__all__`` lists, or every name without a leading underscore. Where the module itself has no
    optimizer its submodules are searched. A class counts if the same package defines it, so that a re-export of
    torch's is not found, if it has a ``step`` of its own and nothing abstract; under several names it counts once.

    Args:
        module_name: as it is imported.
        arguments: lines of ``optcheck_arguments``, as ``lib:Ranger(num_iterations=500)``; those of other modules
            are passed over. A class with several lines is found once for each. What they leave open is taken from
            `GUESSES`.

    Raises:
        OptcheckError: the module does not import or has no optimizer, or a line is malformed or names none of its.
    """
    found, left_out = _search(module_name)
    lines: dict[str, list[TextSpec]] = {}
    for spec in map(parse, arguments):
        address = f"{spec.module}:{spec.name}"
        if address in found:
            lines.setdefault(address, []).append(spec)
        elif spec.module == module_name and address not in left_out:
            near = calls.near(spec.name, {address.rpartition(":")[2] for address in found})
            raise OptcheckError(f"optcheck_arguments: {module_name} has no optimizer {spec.name!r}{near}")
    specs: set[TextSpec] = set()
    for address, optimizer in found.items():
        for spec in lines.get(address, [parse(address)]):
            filled, missing = _filled(spec, optimizer)
            if missing:
                left_out[address] = (
                    f"needs {'arguments' if len(missing) > 1 else 'argument'} {', '.join(missing)}; "
                    f"add a line {address}({', '.join(f'{name}=…' for name in missing)}) to optcheck_arguments, or "
                    "write a marked test where no literal will do"
                )
            else:
                specs.add(filled)
    return Discovered(
        tuple(sorted(specs, key=lambda spec: spec.text)),
        dict(sorted(left_out.items())),
    )


def _search(module_name: str) -> tuple[dict[str, type], dict[str, str]]:
    """Address -> optimizer class, and address -> why there is none, of a module or else of its submodules."""
    try:
        module = importlib.import_module(module_name)
    except FOREIGN as error:  # an import runs foreign code: anything may come out
        raise OptcheckError(f"optcheck_discover: module {module_name!r} does not import ({one_line(error)})") from error
    found: list[tuple[str, type]] = []
    left_out: dict[str, str] = {}
    for part in _with_submodules(module, left_out):
        found += _exported(part, left_out)
        if found and part is module:
            break
    if not found:
        reasons = "; ".join(f"{address}: {why}" for address, why in left_out.items())
        raise OptcheckError(f"optcheck_discover: {module_name!r} has no optimizer{f' ({reasons})' if reasons else ''}")
    return _once_each(found), left_out


def _with_submodules(module: ModuleType, left_out: dict[str, str]) -> Iterator[ModuleType]:
    """`module`, then its public submodules, depth first; those that do not import are left out."""
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if info.name.startswith("_") or info.name in NO_PART:
            continue
        name = f"{module.__name__}.{info.name}"
        try:
            part = importlib.import_module(name)
        except FOREIGN as error:  # as in _search
            left_out[name] = f"does not import ({one_line(error)})"
        else:
            yield from _with_submodules(part, left_out)


def _exported(module: ModuleType, left_out: dict[str, str]) -> Iterator[tuple[str, type]]:
    """Address and class of every optimizer among the public names of `module`."""
    names = getattr(module, "__all__", None)
    for name in sorted({name for name in dir(module) if not name.startswith("_")} if names is None else set(names)):
        address = f"{module.__name__}:{name}"
        try:
            value = getattr(module, name)
        except FOREIGN as error:  # a lazy module imports on first use
            left_out[address] = f"does not import ({one_line(error)})"
        else:
            if _is_optimizer(value, module.__name__.partition(".")[0]):
                yield address, value


def _is_optimizer(value: object, package: str) -> bool:
    """Whether `value` is a class of `package` that optimizes; its base classes may have no ``step`` of their own."""
    from torch.optim import Optimizer

    return (
        isinstance(value, type)
        and issubclass(value, Optimizer)
        and value.__module__.partition(".")[0] == package
        and value.step is not Optimizer.step
        and not inspect.isabstract(value)
    )


def _once_each(found: Sequence[tuple[str, type]]) -> dict[str, type]:
    """Each class under one address: under its own name if it has that, else under the first."""
    addresses: dict[type, str] = {}
    for address, optimizer in found:
        if optimizer not in addresses or _own_name(address, optimizer) > _own_name(addresses[optimizer], optimizer):
            addresses[optimizer] = address
    return {address: optimizer for optimizer, address in addresses.items()}


def _own_name(address: str, optimizer: type) -> bool:
    return address.rpartition(":")[2] == optimizer.__name__


def _filled(spec: TextSpec, optimizer: type) -> tuple[TextSpec, list[str]]:
    """`spec` with its required arguments guessed, and the names of those that cannot be."""
    signature = calls.signature_of(optimizer)
    if signature is None:  # trying it will tell
        return spec, []
    import torch.optim.optimizer as torch_optimizer

    empty = inspect.Parameter.empty
    no_default = (empty, getattr(torch_optimizer, "required", empty))  # the second marks `lr` in code of old
    given = dict(spec.keywords)
    required = [
        parameter.name
        for place, parameter in enumerate(signature.parameters.values())
        if any(parameter.default is mark for mark in no_default)
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and (place > 0 or nesting.names_optimizer(GUESSES.get(parameter.name)))  # the first takes what is trained
    ]
    wanted = [name for name in required if name not in given]
    guessed = {name: GUESSES[name] for name in wanted if name in GUESSES}
    return spec.with_settings(**guessed), [name for name in wanted if name not in GUESSES]
