"""What the master is told of the application in `ready`: its tasks with their limits, and its settings without secrets."""

import json
import logging
from typing import Any, Dict, Optional

from celery import Celery
from celery.utils.saferepr import saferepr
from celery.utils.serialization import jsonify

LONGEST_CONF = 1024 * 1024
"""Settings that are longer as JSON are left out. With the tasks they are to be far below the 16 MiB of a frame."""

LONGEST_TASKS = 4 * 1024 * 1024
"""Tasks whose names and limits are longer together as JSON are left out, the last by name first. They are run nonetheless."""

_LONGEST_VALUE = 16 * 1024

logger = logging.getLogger("celery.worker")


def told(app: Celery) -> Dict[str, Any]:
    """`celery` of the ready frame."""
    conf = app.conf
    # Those of the settings, which hold again where a person takes back the limits of a task.
    of_all = {"time_limit": _seconds(conf.task_time_limit), "soft_time_limit": _seconds(conf.task_soft_time_limit)}
    return {"tasks": _tasks(app), "conf": _conf(app), **of_all}


def _tasks(app: Celery) -> Dict[str, Any]:
    tasks: Dict[str, Any] = {}
    length = 0
    for name, task in sorted(app.tasks.items()):
        tasks[name] = limits(app, task)
        length += len(_json({name: tasks[name]}))
        if length > LONGEST_TASKS:
            del tasks[name]
            logger.warning(
                "The master is told of %d tasks alone of the %d that are registered", len(tasks), len(app.tasks)
            )
            break
    return tasks


def limits(app: Celery, task: Any) -> Dict[str, Any]:
    """Seconds, seconds, and a rate as text; None without one. What the task does not say, the settings say for all."""
    return {
        "time_limit": _seconds(task.time_limit or app.conf.task_time_limit),
        "soft_time_limit": _seconds(task.soft_time_limit or app.conf.task_soft_time_limit),
        "rate_limit": _rate(task.rate_limit),
    }


def _seconds(value: Any) -> Optional[float]:
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _rate(value: Any) -> Optional[str]:
    if not value:
        return None
    # A number is one of tasks a second.
    return value if isinstance(value, str) else f"{value}/s"


def _conf(app: Celery) -> Dict[str, Any]:
    """As `celery inspect conf` says it, with secrets masked by Celery."""
    try:
        conf: Dict[str, Any] = jsonify(
            app.conf.table(with_defaults=False),
            keyfilter=lambda key: isinstance(key, str) and not key.startswith("__"),
            unknown_type_filter=saferepr,
        )
    except Exception as error:
        return {"error": f"the settings cannot be told: {type(error).__name__}"}
    conf = {name: value for name, value in conf.items() if len(_json(value)) <= _LONGEST_VALUE}
    return conf if len(_json(conf)) <= LONGEST_CONF else {}


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # Longer than anything: what is no JSON is not told.
        return " " * (_LONGEST_VALUE + 1)
