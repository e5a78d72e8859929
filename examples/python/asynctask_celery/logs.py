"""The log of the application: set up by its own signals if it does that, else in the form of the master's lines.

Celery writes to stderr, which is one pipe with stdout here, and the master passes each line on. What code prints stays as it
is: it is not made lines of a logger, as Celery's worker makes it.
"""

import logging
import os
from typing import Any, Optional

from celery import Celery
from celery.app import trace
from celery.app.defaults import DEFAULT_PROCESS_LOG_FMT, DEFAULT_TASK_LOG_FMT

LINE = "%(levelname)s:%(name)s:%(message)s"
TASK_LINE = "%(levelname)s:%(name)s:%(task_name)s[%(task_id)s]: %(message)s"

_LEVELS = {"TRACE": "DEBUG", "WARN": "WARNING", "NOTICE": "INFO", "FATAL": "CRITICAL"}


class Logs:
    """Levels and forms of the log."""

    def __init__(self, app: Celery, level: Optional[str]) -> None:
        self._has_own_level = level is not None
        self.level = _level(level or os.environ.get("ASYNCTASK_LOG_LEVEL", "INFO"))
        log: Any = app.log
        self._is_ours = False
        # What the application's settings say goes first.
        if log.format == DEFAULT_PROCESS_LOG_FMT:
            log.format = LINE
        if log.task_format == DEFAULT_TASK_LOG_FMT:
            log.task_format = TASK_LINE

    def are_set_up(self) -> None:
        """To be called when the log of the application is set up, by itself or by Celery."""
        from celery import signals

        self._is_ours = not signals.setup_logging.receivers
        self._say_each_task()

    def set_level(self, word: str) -> bool:
        """Takes the master's level, unless the application or the command line have their own; whether it did."""
        if self._has_own_level or not self._is_ours:
            return False
        self.level = _level(word)
        logging.getLogger().setLevel(self.level)
        logging.getLogger("celery.task").setLevel(self.level)
        self._say_each_task()
        return True

    def _say_each_task(self) -> None:
        # A line for each task costs more than a small task: like the master's own such lines it is one of DEBUG.
        each = self._has_own_level or self.level == "DEBUG" or not self._is_ours
        trace.logger.setLevel(logging.NOTSET if each else logging.WARNING)


def _level(word: str) -> str:
    word = _LEVELS.get(word.upper(), word.upper())
    return word if word in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO"
