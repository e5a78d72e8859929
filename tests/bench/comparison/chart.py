"""The rates of a run as a bar chart in SVG, with what the rounds spread. It has no background and takes the colours
of the page's scheme, light or dark. Waits are left out: a bar of theirs would be better when shorter."""

from __future__ import annotations

from typing import List
from xml.sax.saxutils import escape

from .run_file import Result, RunFile, Section
from .table import count

WIDTH = 820
LEFT = 270
"""Where bars begin; labels stand before it."""
RIGHT = 130
"""Kept free after the longest bar, for its figure."""
ROW = 24
BAR = 14
TITLE = 40

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .ours { fill: #0969da }
  .bare { fill: #8c959f }
  .other { fill: #bf8700 }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .ours { fill: #4493f8 }
    .bare { fill: #656d76 }
    .other { fill: #d29922 }
    .spread { stroke: #e6edf3 }
  }
"""


def svg(run: RunFile) -> str:
    shapes: List[str] = []
    top = 0
    for group in run.groups:
        present = [result for result in group.results if result.rounds]
        if present and not group.has_waits():
            top = _group(group, present, top, shapes)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 8}" viewBox="0 0 {WIDTH} {top + 8}"'
    label = "Tasks per second, medians, with the least and the most of the rounds"
    return "\n".join([f'{head} role="img" aria-label="{label}">', f"<style>{STYLE}</style>", *shapes, "</svg>", ""])


def _group(group: Section, present: List[Result], top: int, shapes: List[str]) -> int:
    """Draws a group below `top`, on a scale of its own, and gives where it ends."""
    shapes.append(f'<text class="title" x="8" y="{top + 26}">{escape(group.title)}: tasks/s</text>')
    top += TITLE
    scale = (WIDTH - LEFT - RIGHT) / max(result.spread().most for result in present)
    for result in present:
        spread = result.spread()
        middle, end = top + ROW // 2, LEFT + spread.median * scale
        least, most = LEFT + spread.least * scale, LEFT + spread.most * scale
        bar = f'x="{LEFT}" y="{middle - BAR // 2}" width="{end - LEFT:.1f}" height="{BAR}" rx="2"'
        whisker = f"M{least:.1f} {middle}H{most:.1f}M{least:.1f} {middle - 4}v8M{most:.1f} {middle - 4}v8"
        shapes += [
            f'<text x="{LEFT - 8}" y="{middle + 5}" text-anchor="end">{escape(result.label)}</text>',
            f'<rect class="{_colour(result)}" {bar}/>',
            f'<path class="spread" d="{whisker}"/>',
            f'<text x="{max(end, most) + 8:.1f}" y="{middle + 5}">{count(spread.median)}</text>',
        ]
        top += ROW
    return top


def _colour(result: Result) -> str:
    if result.name.startswith("bare"):
        return "bare"
    return "ours" if result.name in {"rust", "python", "application"} else "other"
