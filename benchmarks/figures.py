"""How every benchmark ends: one line of name=value figures, and the same as JSON where a file is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping

Figures = dict[str, int | float]
"""Name -> number; units live in the names."""


def add_json_option(parser: ArgumentParser) -> None:
    """Give `parser` the option ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")


def finish(figures: Mapping[str, int | float], file: Path | None) -> None:
    """Print the figures on one line, as ``name=value`` each, and write them to `file` unless that is None."""
    print(" ".join(f"{name}={_short(value)}" for name, value in figures.items()), flush=True)
    if file is not None:
        file.write_text(json.dumps(dict(figures), indent=2) + "\n", encoding="utf-8")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
