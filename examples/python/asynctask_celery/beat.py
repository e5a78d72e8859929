"""Prints `beat_schedule` of an application as entries of `scheduled_workers`.

Each entry is either the same moments or, where they cannot be said, a comment with the reason: nothing is left out in
silence. Scalars are written as JSON, which YAML reads.
"""

import json
import re
from datetime import timedelta
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from celery import Celery
from celery.schedules import crontab, schedule

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,149}\Z")
# Options of `apply_async` that a queue or the message's making stands for.
_TAKEN = ("queue", "routing_key", "exchange")


def printed(app: Celery) -> str:
    """The text, with a newline at its end."""
    app.loader.import_default_modules()
    app.finalize()
    lines = [f"# beat_schedule of {app.main or 'the application'}: fired by the one master that has --scheduler."]
    entries = sorted(_entries(app).items())
    if not entries:
        return lines[0] + "\n# It is empty.\n"
    lines.append("scheduled_workers:")
    ids: Set[str] = set()
    for name, entry in entries:
        lines.extend("  " + line for line in _entry(app, str(name), entry, ids))
    if all(line.lstrip().startswith("#") for line in lines[2:]):
        lines[1] = "scheduled_workers: []"
    return "\n".join(lines) + "\n"


def _entries(app: Celery) -> Dict[str, Any]:
    entries: Dict[str, Any] = dict(app.conf.beat_schedule or {})
    if app.conf.result_expires and not app.backend.supports_autoexpire and "celery.backend_cleanup" not in entries:
        # Beat adds it by itself.
        entries["celery.backend_cleanup"] = {
            "task": "celery.backend_cleanup",
            "schedule": crontab(minute="0", hour="4", day_of_week="*"),
            "options": {"expires": 12 * 3600},
        }
    return entries


def _entry(app: Celery, name: str, entry: Any, ids: Set[str]) -> Iterator[str]:
    get = entry.get if isinstance(entry, dict) else lambda key, other=None: getattr(entry, key, other)
    task, options = get("task"), dict(get("options") or {})
    when, why = _when(get("schedule"))
    fields: List[Tuple[str, Any]] = [("celery", task)]
    for key in ("args", "kwargs"):
        value = get(key)
        if value:
            fields.append((key, list(value) if key == "args" else value))
    queue, of_routes = _queue(app, task, options)
    fields.append(("queue", queue))
    fields.extend(when)
    if any(key in _CALENDAR for key, _ in when):
        fields.append(("timezone", _zone(app)))
    if _ID.match(name) and name not in ids:
        ids.add(name)
        fields.append(("id", name))
    else:
        yield f"# {_comment(name)}:"
    left: Dict[str, Any] = {key: options[key] for key in options if key not in _TAKEN}
    if left:
        yield f"# not taken over from {_comment(name)}: " + ", ".join(f"{key}={_comment(left[key])}" for key in left)
    if of_routes:
        yield f"# {_comment(name)}: {of_routes}"
    try:
        text = [f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in fields]
    except (TypeError, ValueError):
        why = why or "its arguments are no JSON"
    if why:
        yield f"# {_comment(name)} ({_comment(task)}) cannot be said here: {why}"
        return
    yield "- " + text[0]
    yield from ("  " + field for field in text[1:])


_CALENDAR = ("minute", "hour", "day", "day_of_week", "month")


def _when(given: Any) -> Tuple[List[Tuple[str, Any]], Optional[str]]:
    """Fields of the moments, or why there are none."""
    if isinstance(given, crontab):
        if given.nowfun is not None:
            return [], "its crontab has a clock of its own (nowfun)"
        return _fields(given), None
    if isinstance(given, timedelta):
        seconds = given.total_seconds()
    elif isinstance(given, (int, float)):
        seconds = float(given)
    elif isinstance(given, schedule):
        seconds = given.run_every.total_seconds()
    else:
        return [], f"a schedule of the type {type(given).__name__}"
    if seconds < 1:
        return [], f"every {seconds:g} s is more often than once in a second"
    return [("every", _duration(seconds))], None


def _fields(given: crontab) -> List[Tuple[str, Any]]:
    fields = [
        ("minute", _values(given.minute, 0, 59)),
        ("hour", _values(given.hour, 0, 23)),
        ("day", _values(given.day_of_month, 1, 31)),
        ("month", _values(given.month_of_year, 1, 12)),
    ]
    # Celery counts from Sunday, the settings from Monday: names have one meaning.
    days = {(day + 6) % 7 for day in given.day_of_week}
    if len(days) < 7:
        fields.append(("day_of_week", ",".join(_DAYS[day] for day in sorted(days))))
    # The minute stands for all that is below it; what is `*` above it need not be said.
    return [field for field in fields if field[0] == "minute" or field[1] != "*"]


def _values(values: Iterable[int], least: int, most: int) -> Any:
    numbers = sorted(values)
    if len(numbers) == 1:
        return numbers[0]
    step = numbers[1] - numbers[0]
    if numbers == list(range(least, most + 1, step)):
        return "*" if step == 1 else f"*/{step}"
    parts: List[List[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _duration(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def _queue(app: Celery, task: Any, options: Dict[str, Any]) -> Tuple[str, Optional[str]]:
    """The queue that a message of beat's would be in, and what is to be said of it."""
    try:
        route = app.amqp.router.route(dict(options), task)
        queue = route.get("queue")
        if queue is not None:
            return getattr(queue, "name", None) or str(queue), None
    except Exception as error:
        return str(app.conf.task_default_queue), f"its route is not known: {type(error).__name__}"
    if route.get("exchange") or route.get("routing_key"):
        return str(app.conf.task_default_queue), "it is published to an exchange; its queue is to be said by hand"
    return str(app.conf.task_default_queue), None


def _zone(app: Celery) -> str:
    zone = app.timezone
    return str(getattr(zone, "key", None) or getattr(zone, "zone", None) or zone)


def _comment(value: Any) -> str:
    return " ".join(str(value).split())[:200]
