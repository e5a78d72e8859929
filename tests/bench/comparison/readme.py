"""The tables of a run in a file of Markdown: between two marks, and nothing outside of them is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from .stage import Failed

BEGIN = "<!-- comparison: written by tests/bench/compare --readme -->"
END = "<!-- end of the comparison -->"


def renew(path: Path, tables: str, picture: Optional[Path]) -> None:
    """Puts the tables, and the chart where there is one, between the marks of the file."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failed(f"{path} has no marks of the comparison")
    body = tables
    if picture:
        link = os.path.relpath(picture.resolve(), path.resolve().parent)
        body = f"![Tasks per second]({link})\n\n{tables}"
    path.write_text(f"{before}{BEGIN}\n{body}{END}{after}")
