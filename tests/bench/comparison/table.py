"""The figures of a run as tables: in columns for a terminal, in Markdown for the README."""

from __future__ import annotations

from typing import Callable, List, Tuple

from .run_file import Result, RunFile, Section, Spread

WAITS = [
    ("waited p50", "wait_p50"),
    ("explained p50", "explained_p50"),
    ("waited p99", "wait_p99"),
    ("explained p99", "explained_p99"),
    ("over it p99", "over_p99"),
    ("started p50", "start_p50"),
    ("started p99", "start_p99"),
]
"""Columns of waits: of a mix, of an idle system."""

SHORT = {
    "bare-batched": "bare, batched",
    "bare-each": "bare, each",
    "bare": "bare",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "huey": "huey",
}

Row = List[str]


def plain(run: RunFile) -> str:
    """For a terminal."""
    return _document(run, _columns)


def markdown(run: RunFile) -> str:
    """For the README."""
    return _document(run, _pipes)


def count(rate: float) -> str:
    """Three digits are more than a run can tell."""
    digits = max(0, len(str(round(rate))) - 3)
    return f"{round(rate, -digits):,.0f}"


def plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _document(run: RunFile, table: Callable[[List[Row]], str]) -> str:
    parts = [_about(run)]
    for group in run.groups:
        present = [result for result in group.results if result.rounds]
        lines = [f"{group.title}:", ""]
        if present:
            head, body = _waits(present) if group.has_waits() else _rates(group, present)
            lines += [table([head, *body])]
        absent = [f"- {result.label}: absent: {result.absent}" for result in group.results if not result.rounds]
        partly = [
            f"- {result.label}: {plural(len(result.rounds), 'round')} alone: {result.absent}"
            for result in group.results
            if result.rounds and result.absent
        ]
        if absent or partly:
            lines += [*([""] if present else []), *absent, *partly]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _about(run: RunFile) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.about["versions"].items())
    rounds = plural(run.about["rounds"], "round")
    quick = ", quick: a look, no measurement" if run.about["quick"] else ""
    return (
        f"{run.about['date']}, {run.about['cores']} cores, {versions}; {rounds} in turn{quick}. "
        "Medians, with the least and the most; ratios are taken in each round."
    )


def _rates(group: Section, present: List[Result]) -> Tuple[Row, List[Row]]:
    baselines = group.compared()
    head = ["", "tasks/s", "least – most", *(f"× {SHORT.get(one.name, one.label)}" for one in baselines)]
    body = []
    for result in present:
        spread = result.spread()
        row = [result.label, count(spread.median), f"{count(spread.least)} – {count(spread.most)}"]
        for baseline in baselines:
            ratio = None if baseline is result else result.ratio(baseline)
            row.append("–" if ratio is None else _ratio(ratio))
        body.append(row)
    return head, body


def _waits(present: List[Result]) -> Tuple[Row, List[Row]]:
    known = set(present[0].rounds[min(present[0].rounds)])
    columns = [(title, key) for title, key in WAITS if key in known]
    head = ["", *(title for title, _ in columns)]
    body = []
    for result in present:
        spreads = [result.waits(key) for _, key in columns]
        digits = 2 if "start_p50" in known else 1
        cells = [f"{one.median:.{digits}f} ({one.least:.{digits}f} – {one.most:.{digits}f})" for one in spreads]
        body.append([result.label, *cells])
    return head, body


def _ratio(ratio: Spread) -> str:
    digits = 2 if ratio.median < 10 else 1
    return f"{ratio.median:.{digits}f} ({ratio.least:.{digits}f} – {ratio.most:.{digits}f})"


def _columns(rows: List[Row]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, rest = row[0].ljust(widths[0]), [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("   ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _pipes(rows: List[Row]) -> str:
    head, *body = rows
    rule = [" --- ", *(" ---: " for _ in head[1:])]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in body)]
    return "\n".join(lines)
