"""The memory of all tensors that an object leads to, by what Python's own collector would follow."""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from torch import UntypedStorage

NOT_FOLLOWED = (type, ModuleType, CodeType, BuiltinFunctionType, str, bytes, int, float, complex, type(None))
"""What belongs to the code and not to the object, and what leads nowhere."""


def storages(*roots: object) -> dict[int, UntypedStorage]:
    """The memory of every tensor that `roots` lead to, by its address, in the order it is found.

    Attributes, items, closures and bound methods are followed; weak references, modules, classes, the global
    variables of functions, gradients and the history that autograd keeps are not.
    """
    found: dict[int, UntypedStorage] = {}
    seen: set[int] = set()
    todo: list[Any] = list(roots)
    while todo:
        value = todo.pop()
        if isinstance(value, NOT_FOLLOWED) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.update((storage._cdata, storage) for storage in of_tensor(value))  # noqa: SLF001 - its address
            todo.extend(vars(value).values())  # a tensor subclass may consist of others
        elif isinstance(value, FunctionType):
            todo += [value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__]
        else:
            todo += gc.get_referents(value)
    return found


def of_tensor(tensor: Tensor) -> tuple[UntypedStorage, ...]:
    """The memory of `tensor`: of indices and values where it is sparse, none where it has none of its own."""
    try:
        if tensor.is_sparse:
            return tensor._indices().untyped_storage(), tensor._values().untyped_storage()  # noqa: SLF001 - torch's names
        return (tensor.untyped_storage(),)
    except (NotImplementedError, RuntimeError):  # other layouts, and tensors that only stand for others
        return ()


def size(found: dict[int, UntypedStorage]) -> int:
    """Bytes in all."""
    return sum(storage.nbytes() for storage in found.values())
