"""Routes on which the optimizer is saved and loaded, copied or pickled in mid-run."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pytest_optcheck.building import parameter_group
from pytest_optcheck.curves import restart_update
from pytest_optcheck.errors import one_line
from pytest_optcheck.laws.base import states
from pytest_optcheck.routes.base import BYSTANDER, Group, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_optcheck.training import Training


class Resume(Route):
    """``state_dict`` through a file into fresh objects, built with settings that the load must overwrite."""

    def after(self, training: Training) -> None:
        """Restart when it is due."""
        super().after(training)
        if _due(training):
            self.restart(training)

    def restart(self, training: Training) -> None:
        """Save, build anew, load."""
        kept = _structure(training.optimizer)
        saved = _through_file(training, self.saved(training))
        training.renew()
        for group in training.optimizer.param_groups:
            for setting in ("lr", "weight_decay"):
                if isinstance(group.get(setting), (int, float, Tensor)):
                    group[setting] = group[setting] * 0.5 + 1e-3
        untouched = copy.deepcopy(saved["optimizer"])
        training.optimizer.load_state_dict(saved["optimizer"])
        if not _same(saved["optimizer"], untouched):
            training.laws.breaks("loaded_dict_untouched", "load_state_dict changed the dict it was given")
        training.schedules.load_state_dict(saved["schedules"])
        self.loaded(training, kept)

    def saved(self, training: Training) -> dict[str, Any]:
        """What goes into the file."""
        return {"optimizer": training.optimizer.state_dict(), "schedules": training.schedules.state_dict()}

    def loaded(self, training: Training, kept: dict[str, str]) -> None:
        """The state must be what it was, key by key."""
        now = _structure(training.optimizer)
        for key in sorted(kept.keys() | now.keys()):
            if kept.get(key) != now.get(key):
                found = f"{key} is {now.get(key, 'gone')} after the load, was {kept.get(key, 'not there')}"
                training.laws.breaks("state_kept", found)
                return


class ResumeFloat32State(Resume):
    """A checkpoint whose state was stored in float32."""

    def saved(self, training: Training) -> dict[str, Any]:
        """Floating state narrowed."""
        saved = super().saved(training)
        narrowed = pytree.tree_map_only(Tensor, _narrow, saved["optimizer"]["state"])
        return {**saved, "optimizer": {**saved["optimizer"], "state": narrowed}}

    def loaded(self, training: Training, kept: dict[str, str]) -> None:
        """Which dtype a load makes of it is the optimizer's own affair."""


class OlderState(Resume):
    """A checkpoint of an older version: settings that came later are missing, counters are plain numbers."""

    def saved(self, training: Training) -> dict[str, Any]:
        """Without the keys that recording found dispensable."""
        saved = super().saved(training)
        optional = training.conditions.optional
        state = saved["optimizer"]
        groups = [{key: kept for key, kept in group.items() if key not in optional} for group in state["param_groups"]]
        if "step" in optional:
            numbered = {key: {**kept, "step": float(kept["step"])} for key, kept in state["state"].items()}
            state = {**state, "state": numbered}
        return {**saved, "optimizer": {**state, "param_groups": groups}}

    def loaded(self, training: Training, kept: dict[str, str]) -> None:
        """What is filled in shows in the curve."""


class DeepCopy(Route):
    """``copy.deepcopy`` of optimizer, schedulers and parameters; the copies go on, the originals are ruined."""

    def after(self, training: Training) -> None:
        """Copy when it is due."""
        if _due(training):
            left = [*training.tensors.values(), *(tensor for _, _, tensor in states(training))]
            training.replace(self.copied(training.whole()))
            _ruin(left)

    def copied(self, whole: dict[str, Any]) -> dict[str, Any]:
        """A copy that shares nothing with `whole`."""
        return copy.deepcopy(whole)


class Pickle(DeepCopy):
    """The same through ``pickle``; then a tensor that must never move joins by ``add_param_group``."""

    def copied(self, whole: dict[str, Any]) -> dict[str, Any]:
        """What comes out of the pickle."""
        restored: dict[str, Any] = pickle.loads(pickle.dumps(whole))  # noqa: S301 - made on this line
        return restored

    def after(self, training: Training) -> None:
        """Pickle when it is due."""
        super().after(training)
        joinable = training.grouped and not training.schedules.schedulers
        if joinable and _due(training):
            first = next(iter(training.tensors.values()))
            training.tensors[BYSTANDER] = first.detach().new_ones(3, 2).requires_grad_()
            alone = parameter_group(Group((BYSTANDER,), 0), training.tensors, training.conditions.needs)
            training.optimizer.add_param_group(alone)


def _due(training: Training) -> bool:
    """Whether the update that was just made is the one to restart after."""
    return training.updates == restart_update(training.steps)


def _ruin(tensors: Iterable[Tensor]) -> None:
    """Fill tensors with what shows wherever they are still used."""
    with torch.no_grad():
        for tensor in tensors:
            tensor.fill_(torch.nan if tensor.is_floating_point() or tensor.is_complex() else 0)


def _through_file(training: Training, saved: dict[str, Any]) -> dict[str, Any]:
    """What ``torch.load`` gives back; the safe way if it can be read so, which is a law."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        training.laws.breaks("weights_only", one_line(error))
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
    return loaded


def _narrow(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.dtype == torch.float64 else tensor


def _structure(optimizer: Any) -> dict[str, str]:  # noqa: ANN401 - optimizers are what behaves like one
    """``state[3].exp_avg`` -> shape, dtype and device; settings of the groups by name."""
    saved = optimizer.state_dict()
    found = {
        f"state{pytree.keystr(path)}": f"{tuple(leaf.shape)} {leaf.dtype} {leaf.device}"
        if isinstance(leaf, Tensor)
        else type(leaf).__name__
        for path, leaf in pytree.tree_leaves_with_path(saved.get("state", {}))
    }
    for index, group in enumerate(saved.get("param_groups", ())):
        found |= {f"group {index}: {key}": "there" for key in group}
    return found


def _same(one: object, other: object) -> bool:
    """Whether two trees hold the same values; a NaN is the same as a NaN."""
    leaves, tree = pytree.tree_flatten(one)
    others, other_tree = pytree.tree_flatten(other)
    if tree != other_tree:
        return False
    return all(_same_leaf(a, b) for a, b in zip(leaves, others, strict=True))


def _same_leaf(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and bool(((one == other) | (one.isnan() & other.isnan())).all())
    return repr(one) == repr(other) or pickle.dumps(one) == pickle.dumps(other)  # a repr may hold an address
