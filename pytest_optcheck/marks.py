"""Which tests are optcheck's. Imported when pytest starts: the standard library and pytest only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def is_marked(item: pytest.Item) -> bool:
    """Whether `item` carries the marker ``optcheck`` or uses the fixture of that name."""
    return item.get_closest_marker("optcheck") is not None or "optcheck" in getattr(item, "fixturenames", ())
