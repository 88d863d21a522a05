"""Kinds of tensors: a mistake in one of several code paths is made in some of them only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_optcheck.diagnosis.observing import Track

FEW = 3
"""So many tensors are named; of more the first are."""

MATRIX = 2
"""Dimensions of a matrix."""


def kinds(tracks: Sequence[Track], departing: Sequence[int]) -> Iterator[tuple[str, Callable[[Track], bool]]]:
    """Kinds of tensors that hold all that depart, the most general first, and at last those alone."""
    names = [tracks[index].name for index in sorted(departing)]
    groups = {tracks[index].group for index in departing}
    general: list[tuple[str, Callable[[Track], bool]]] = [
        ("in tensors of fewer than two dimensions only", lambda track: track.start.ndim < MATRIX),
        ("in tensors of two and more dimensions only", lambda track: track.start.ndim >= MATRIX),
        (f"in parameter group {min(groups)} only", lambda track: track.group in groups),
        ("in vectors only", lambda track: track.start.ndim == 1),
        ("in matrices only", lambda track: track.start.ndim == MATRIX),
        ("in tensors of three and more dimensions only", lambda track: track.start.ndim > MATRIX),
    ]
    for words, within in general:
        if len(groups) > 1 and words.startswith("in parameter group"):
            continue
        if all(within(tracks[index]) for index in departing) and not all(map(within, tracks)):
            yield words, within
    others = [track.name for track in tracks if track.name not in names]
    if len(others) <= FEW < len(names):
        yield f"but not in {', '.join(others)}", lambda track: track.name in names
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    yield f"in {', '.join(names[:FEW])}{more} only", lambda track: track.name in names
