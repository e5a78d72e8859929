"""Stores what no tracer has stored, in bounded time: a result backend that does not answer keeps no worker from its work."""

import logging
from typing import Any, Callable

from celery.utils.saferepr import saferepr
from kombu.utils.url import maybe_sanitize_url

from .limits import Limits

SECONDS = 5.0
"""The master waits for ten until it has heard that a lost task is reported."""

logger = logging.getLogger("celery.worker")


class TooLong(BaseException):
    """It took longer than `SECONDS`. No `Exception`, since retries of result backends catch those."""


class Stored:
    """Calls what stores."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        limits.covers(_called)

    def store(self, task_id: str, what: Callable[[], object]) -> bool:
        """Calls it; whether it came to its end. What it raises, and that it took too long, is a line in the log."""
        try:
            self._limits.begin(SECONDS, TooLong)
            _called(what)
            return True
        except (Exception, TooLong) as error:
            what_happened = f"no answer in {SECONDS:g} s" if isinstance(error, TooLong) else saferepr(error)
            logger.error("No result was stored for %s: %s", task_id, what_happened)
            return False
        finally:
            self._limits.end()


def sanitized(backend: Any) -> str:
    """The address of a result backend without its passwords; it may be several."""
    return ";".join(str(maybe_sanitize_url(address)) for address in str(backend).split(";"))


def _called(what: Callable[[], object]) -> None:
    what()
