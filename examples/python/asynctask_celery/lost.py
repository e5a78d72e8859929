"""Reports tasks that no worker could report on: the master has dead-lettered them, and `.get()` is to return.

What is stored is Celery's own exception for such an end with the master's cause of death as its text; chords, chains and errbacks
go on as after any other failure. Nothing here decides what becomes of the message: that is done.
"""

import logging
from typing import Any, Mapping, Optional

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from kombu.exceptions import DecodeError

from .application import Application
from .messages import Reader, Received, Unreadable, one_line
from .requests import Requests, Settled, context, context_of_headers
from .stored import Stored

logger = logging.getLogger("celery.worker")

REVOKED = ("expired", "cancelled")


class Lost:
    """Stores the ends of lost tasks of an application."""

    def __init__(self, application: Application, reader: Reader, requests: Requests, stored: Stored) -> None:
        self._application = application
        self._app = application.app
        self._reader = reader
        self._requests = requests
        self._stored = stored

    def report(self, lost: Mapping[str, Any]) -> bool:
        """Stores the end of a task, or writes to the log why that was not possible: whether it was. Raises nothing."""
        task_id = str(lost.get("id"))
        return self._stored.store(task_id, lambda: self._report(lost))

    def _report(self, lost: Mapping[str, Any]) -> None:
        reason = lost.get("reason")
        error = one_line(str(lost.get("error") or reason), 2_000)
        try:
            received: Optional[Received] = self._reader.read(lost)
        except Unreadable:
            received = None
        if received is None:
            self._of_headers(lost, reason, error)
            return
        task = self._app.tasks.get(received.request["task"])
        request = None if task is None else self._request(task, received)
        if request is None:
            self._of_unregistered(received, reason, error)
        elif reason in REVOKED:
            text = "expired" if reason == "expired" else error
            request._announce_revoked(text, False, None, reason == "expired")
        elif reason == "timeout":
            request.on_timeout(False, lost.get("time_limit") or error)
        else:
            self._failed(task, request, _exception(reason, error, None))

    def _request(self, task: Any, received: Received) -> Any:
        try:
            return self._requests.request(task, received, Settled())
        except Exception as error:
            logger.error("The request of %s cannot be made: %s", received.request["id"], error)
            return None

    def _failed(self, task: Any, request: Any, error: Exception) -> None:
        was_stored = getattr(request, "_success_was_stored", None)
        if was_stored is not None and was_stored():
            # It died after that: a failure now would count a member of a chord twice.
            return
        self._app.tasks[request.task.name].backend.mark_as_failure(
            request.id, error, request=request._context, store_result=request.store_errors
        )
        einfo = _info(error)
        task.request_stack.push(request._context)
        try:
            signals.task_failure.send(
                sender=task,
                task_id=request.id,
                exception=error,
                args=request._context.args,
                kwargs=request._context.kwargs,
                traceback=einfo.traceback,
                einfo=einfo,
            )
        finally:
            task.request_stack.pop()

    def _of_unregistered(self, received: Received, reason: Any, error: str) -> None:
        """Of a task that this application does not know."""
        self._mark(received.request["id"], reason, error, None, context(received))

    def _of_headers(self, lost: Mapping[str, Any], reason: Any, error: str) -> None:
        """Of a message that cannot be read: its id is in the headers, or is that of the master."""
        headers = lost.get("headers") or {}
        task_id = headers.get("id")
        task_id = task_id if isinstance(task_id, str) else str(lost.get("id"))
        if not headers.get("ignore_result"):
            of_headers = context_of_headers(task_id, headers, lost.get("properties") or {})
            self._mark(task_id, reason, error, lost.get("time_limit"), of_headers)

    def _mark(self, task_id: str, reason: Any, error: str, limit: Any, request: Any) -> None:
        exception = _exception(reason, error, limit)
        if isinstance(exception, TaskRevokedError):
            self._app.backend.mark_as_revoked(task_id, str(exception), request=request)
        else:
            self._app.backend.mark_as_failure(task_id, exception, request=request)


def _exception(reason: Any, error: str, limit: Any) -> Exception:
    # What else there is: it crashed, or was delivered too often and never ended.
    exception: Exception = WorkerLostError(error)
    if reason == "timeout":
        exception = TimeLimitExceeded(limit or error)
    elif reason == "malformed":
        exception = DecodeError(error)
    elif reason in REVOKED:
        exception = TaskRevokedError("expired" if reason == "expired" else error)
    return exception


def _info(error: Exception) -> Any:
    try:
        raise error
    except Exception:
        return ExceptionInfo()
