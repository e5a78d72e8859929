"""What the master is told of the application in `ready`: its tasks with their limits, and its settings without secrets."""

import json
import logging
import platform
import struct
from collections import defaultdict
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional, Tuple

import billiard
import celery
import kombu
from celery import Celery
from celery.app.utils import BUGREPORT_INFO
from celery.utils.saferepr import saferepr
from celery.utils.serialization import jsonify

from .stored import sanitized

LONGEST_CONF = 1024 * 1024
"""Settings that are longer as JSON are left out. With the tasks they are to be far below the 16 MiB of a frame."""

LONGEST_REPORT = 256 * 1024
"""Characters of a report; of a longer one the end is left out."""

LONGEST_TASKS = 4 * 1024 * 1024
"""Tasks whose names and limits are longer together as JSON are left out, the last by name first. They are run nonetheless."""

_LONGEST_VALUE = 16 * 1024
_LONGEST_ATTRIBUTE = 200

logger = logging.getLogger("celery.worker")


def told(app: Celery) -> Dict[str, Any]:
    """`celery` of the ready frame."""
    conf = app.conf
    # Those of the settings, which hold again where a person takes back the limits of a task.
    of_all = {"time_limit": _seconds(conf.task_time_limit), "soft_time_limit": _seconds(conf.task_soft_time_limit)}
    attributes = _of_most(app)
    tasks = _tasks(app, attributes)
    return {"tasks": tasks, "conf": _conf(app), "attributes": attributes, "report": _report(app), **of_all}


def _tasks(app: Celery, of_most: Dict[str, str]) -> Dict[str, Any]:
    tasks: Dict[str, Any] = {}
    length = 0
    for name, task in sorted(app.tasks.items()):
        tasks[name] = limits(app, task)
        own = _differing(_attributes(task), of_most)
        if own:
            tasks[name]["attributes"] = own
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


def _of_most(app: Celery) -> Dict[str, str]:
    """Attributes of the first task that is the application's own: the others mostly have the same."""
    names = sorted(app.tasks, key=lambda name: (name.startswith("celery."), name))
    return _attributes(app.tasks[names[0]]) if names else {}


def _attributes(task: Any) -> Dict[str, str]:
    """What `celery inspect registered` shows of a task when it is asked for it by name; but for its name, which is known.

    Plain values alone, as Python shows them, and no properties: some of those open connections. None is an empty text.
    """
    # Each task has a class of its own, and most have the same classes behind that.
    own, *bases = type(task).__mro__
    return {**_of_classes(tuple(bases)), **_as_text(vars(own)), **_as_text(vars(task))}


@lru_cache(maxsize=64)
def _of_classes(classes: Tuple[type, ...]) -> Dict[str, str]:
    attributes: Dict[str, str] = {}
    for of_class in reversed(classes):
        attributes.update(_as_text(vars(of_class)))
    return attributes


def _as_text(values: Mapping[str, Any]) -> Dict[str, str]:
    """None is empty: it hides what stands behind it."""
    return {
        name: "" if value is None else str(value)[:_LONGEST_ATTRIBUTE]
        for name, value in values.items()
        if isinstance(value, (str, int, float, tuple, list, type(None))) and not name.startswith("_") and name != "name"
    }


def _differing(attributes: Dict[str, str], of_most: Dict[str, str]) -> Dict[str, str]:
    """Those that are others; empty ones for those that there are not."""
    absent = {name: "" for name in of_most if name not in attributes and of_most[name]}
    return {**absent, **{name: value for name, value in attributes.items() if of_most.get(name, "") != value}}


def _report(app: Celery) -> str:
    """As `celery report` says it, with secrets masked by Celery. Its own function starts a process, to ask what Python was built for."""
    try:
        connection = app.connection()
        said = {
            "system": platform.system(),
            "arch": f"{8 * struct.calcsize('P')}bit",
            "kernel_version": platform.release(),
            "py_i": platform.python_implementation(),
            "py_v": platform.python_version(),
            "celery_v": celery.VERSION_BANNER,
            "kombu_v": kombu.__version__,
            "billiard_v": billiard.__version__,
            "driver_v": f"{connection.transport.driver_name}:{connection.transport.driver_version()}",
            "transport": connection.transport_cls,
            "results": sanitized(app.conf.result_backend or "disabled"),
            "human_settings": app.conf.humanize(),
            "loader": f"{type(app.loader).__module__}.{type(app.loader).__qualname__}",
        }
        # What another version of Celery says beyond that is left out.
        return BUGREPORT_INFO.format_map(defaultdict(str, said))[:LONGEST_REPORT]
    except Exception as error:
        return f"software -> celery:{celery.VERSION_BANNER}; more cannot be said: {type(error).__name__}\n"


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
