"""Runs tasks by Celery's own tracer, and says to the master how each ended.

    what the tracer says      what the master is told
    success, Ignore           done
    self.retry                done: its new message is stored already
    failure                   failed: a dead letter, with the traceback; done with ASYNCTASK_CELERY_FAILURES=drop
    Reject(requeue=False)     failed: a dead letter
    Reject(requeue=True)      snooze of 0 ms; done after an early acknowledgement, as in Celery
    SystemExit                nothing: the process ends, which the master takes for a crash
    not registered            failed, and Celery's own NotRegistered is stored for the caller
    not readable              malformed, and why is stored for the caller
    not as bytes              snooze of 1 s: the queue is not Celery's any more

Between the frame of a task and its outcome stands no work of ours that is not done for each task: objects that only hooks,
failures and signals need are made for those alone.
"""

import logging
import os
import re
import time
from difflib import get_close_matches
from json.encoder import encode_basestring as quoted
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from asynctask_worker import Link, Work, dumps, encoded, text_of
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import signals, states
from celery.app import trace
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded
from celery.utils.saferepr import saferepr
from kombu.utils.encoding import safe_str

from .application import Application
from .limits import Limits
from .lost import Lost
from .messages import Reader, Received, Unreadable, one_line
from .ready import told
from .requests import ACKNOWLEDGED, REJECTED, REQUEUED, Requests, Settled, context, context_of_headers
from .revoked import Revoked
from .stored import Stored, sanitized

# What the tracer calls once the task has returned.
_STORING = re.compile(r"in trace_task\n\s+task\.backend\.mark_as_done\(")

PLAIN_REQUEST = "celery.worker.request:Request"

logger = logging.getLogger("celery.worker")

_Tracer = Callable[[str, Any, Any, Dict[str, Any]], Tuple[Any, Any, Any, Any]]


class CeleryWork(Work):
    """What a worker of a Celery application does with the frames of the master."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._app = application.app
        self._limits = Limits()
        self._limits.covers(_limited)
        self._reader = Reader(application.app, application.hostname)
        self._requests = Requests(application.app, application.hostname, self._reader)
        self._stored = Stored(self._limits)
        self._revoked = Revoked(application.app)
        self._lost = Lost(application, self._reader, self._requests, self._stored)
        # The task, its tracer, and whether its requests are of Celery's own class.
        self._tracers: Dict[str, Tuple[Any, _Tracer, bool]] = {}
        self._drops_failures = os.environ.get("ASYNCTASK_CELERY_FAILURES") == "drop"
        self._tells_events = False
        self._conf_soft_limit: Any = application.app.conf.task_soft_time_limit

    def ready(self) -> Mapping[str, Any]:
        return {"wants": ["properties", "celery"], "celery": told(self._app)}

    def ended(self) -> None:
        self._application.ended()

    def told(self, frame: Mapping[str, Any], link: Link) -> None:
        if "lost" in frame:
            is_stored = self._lost.report(frame["lost"])
            link.send({"reported": {"id": frame["lost"].get("id"), "stored": is_stored}})
        elif "control" in frame:
            self._control(frame["control"], link)
        elif "log_level" in frame:
            if self._application.logs.set_level(str(frame["log_level"].get("level"))):
                # A tracer remembers whether it writes a line for each task.
                self._tracers.clear()

    def task(self, body: Mapping[str, Any], link: Link) -> bytes:
        if "payload" in body:
            # The queue has another protocol by now, and this process is to be renewed for it.
            logger.error("%s is put back: its queue has no `protocol: celery` any more", body["id"])
            return _line("snooze", id=body["id"], delay_ms=1000)
        try:
            received = self._reader.read(body)
        except Unreadable as unreadable:
            return self._unreadable(body, unreadable)
        request = received.request
        try:
            task, tracer, is_plain = self._tracers[request["task"]]
        except KeyError:
            known = self._tracer(request["task"])
            if known is None:
                return self._unregistered(received)
            task, tracer, is_plain = known
        run = None
        if signals.task_received.receivers or not is_plain:
            try:
                run = _Run(self, task, received)
            except Exception as error:
                # A moment that is none, in the headers.
                return self._unreadable(body, Unreadable(f"no task: {error}", error))
            signals.task_received.send(sender=self._application.consumer, request=run.request)
            if not is_plain:
                run.request.on_accepted(os.getpid(), time.monotonic())
        is_late = task.acks_late
        if not is_late:
            link.send_line(encoded('{"accept":{"id":' + quoted(body["id"]) + "}}"))
        limit: Any = request.get("timelimit")
        soft = limit[1] if type(limit) in (list, tuple) and len(limit) > 1 else None
        soft = soft or task.soft_time_limit or self._conf_soft_limit
        limits = self._limits
        try:
            if soft and isinstance(soft, (int, float)) and 0 < soft:
                limits.begin(soft, SoftTimeLimitExceeded)
                try:
                    retval, info, runtime, text = _limited(tracer, request)
                finally:
                    limits.end()
                if limits.is_over:
                    logger.warning("Soft time limit (%ss) exceeded for %s[%s]", soft, request["task"], request["id"])
            else:
                retval, info, runtime, text = tracer(request["id"], request["args"], request["kwargs"], request)
        except Exception:
            # The tracer reports what the task raises. This is Reject of one of its hooks, MemoryError, a limit at its end.
            retval, info, runtime, text = ExceptionInfo(), None, None, None
            return (run or self._run(task, received)).escaped(retval, is_late)
        if info is not None:
            return (run or self._run(task, received)).ended(info.state, retval, is_late)
        if run is not None and not is_plain:
            run.request.on_success((0, text, runtime))
        if self._tells_events:
            return _line("done", id=body["id"], result=text_of(text or ""), runtime=runtime or 0.0)
        return encoded('{"done":{"id":' + quoted(body["id"]) + "}}")

    def _tracer(self, name: str) -> Optional[Tuple[Any, _Tracer, bool]]:
        task = self._app.tasks.get(name)
        if task is None:
            return None
        app = self._app
        # Looked up now: libraries that measure tasks put one of their own in its place.
        tracer = trace.build_tracer(name, task, app.loader, self._application.hostname, app=app)
        task.__trace__ = tracer
        self._tracers[name] = task, tracer, task.Request == PLAIN_REQUEST
        return self._tracers[name]

    def _run(self, task: Any, received: Received) -> "_Run":
        return _Run(self, task, received)

    def _control(self, control: Mapping[str, Any], link: Link) -> None:
        method = control.get("method")
        arguments = control.get("arguments") or {}
        ticket = control.get("ticket")
        if method == "revoke":
            ids = [str(task_id) for task_id in arguments.get("task_id") or []]
            self._revoked.store(ids, lambda: link.send({"controlled": {"ticket": ticket}}))
            return
        if method == "enable_events":
            self._tells_events = True
        elif method == "disable_events":
            self._tells_events = False
        elif method == "time_limit":
            task = self._app.tasks.get(arguments.get("task_name"))
            if task is not None:
                # None and 0 are none of its own.
                task.soft_time_limit = arguments.get("soft") or None
                task.time_limit = arguments.get("hard") or None

    def _unregistered(self, received: Received) -> bytes:
        name, task_id = received.request["task"], received.request["id"]
        near = get_close_matches(name[:200], list(self._app.tasks), n=3, cutoff=0.5)
        text = f'the task "{one_line(name, 200)}" is not registered in {self._application.name}'
        text += "; near names: " + ", ".join(near) if near else ""
        logger.error("Received unregistered task of type %r: %s", one_line(name, 200), text)
        self._stored.store(
            task_id,
            lambda: self._app.backend.mark_as_failure(task_id, NotRegistered(name), request=context(received)),
        )
        signals.task_unknown.send(
            sender=self._application.consumer,
            message=self._reader.message(received),
            exc=NotRegistered(name),
            name=name,
            id=task_id,
        )
        registered = "\n".join(["registered:", *sorted(self._app.tasks)])
        return _line("failed", id=received.frame["id"], error=text, detail=text_of(registered))

    def _unreadable(self, frame: Mapping[str, Any], unreadable: Unreadable) -> bytes:
        headers = frame.get("headers") or {}
        logger.error("Message %s is no task: %s", frame["id"], unreadable)
        task_id = headers.get("id")
        if isinstance(task_id, str) and not headers.get("ignore_result"):
            of_headers = context_of_headers(task_id, headers, frame.get("properties") or {})
            self._stored.store(
                task_id, lambda: self._app.backend.mark_as_failure(task_id, unreadable.cause, request=of_headers)
            )
        try:
            message = self._reader.as_came(frame)
            signals.task_rejected.send(sender=self._application.consumer, message=message, exc=unreadable.cause)
        except Exception as error:
            logger.error("task_rejected was not sent for %s: %s", frame["id"], type(error).__name__)
        return _line("malformed", id=frame["id"], error=str(unreadable))


class _Run:
    """One run of a task with the request that Celery's worker would have: for hooks, and for what is no success."""

    def __init__(self, work: CeleryWork, task: Any, received: Received) -> None:
        self._work = work
        self._id = received.frame["id"]
        self._settled = Settled()
        self._task = task
        self.request = work._requests.request(task, received, self._settled)

    def ended(self, state: str, einfo: Any, is_late: bool) -> bytes:
        """An end that the tracer has reported: RETRY, IGNORED, REJECTED or FAILURE."""
        how = self._reported(einfo, is_late, return_ok=True)
        if state == states.RETRY:
            return self._done("retried", _cause(einfo).exc or _cause(einfo), einfo)
        if state == states.IGNORED:
            return _line("done", id=self._id)
        if state == states.REJECTED:
            return self._rejected(einfo, how, is_late)
        if self._work._drops_failures and how != REJECTED:
            return self._done("failure", _cause(einfo), einfo)
        return self._failed(einfo)

    def escaped(self, einfo: Any, is_late: bool) -> bytes:
        """An exception that the tracer let through, so that nothing of it is reported yet."""
        how = self._reported(einfo, is_late, return_ok=False)
        if isinstance(_cause(einfo), Reject):
            return self._rejected(einfo, how, is_late)
        return self._failed(einfo)

    def _reported(self, einfo: Any, is_late: bool, return_ok: bool) -> str:
        """Lets Celery's request do what it does on a failure; says what it would tell the broker."""
        # What was acknowledged early cannot be rejected.
        self.request.acknowledged = not is_late
        try:
            self.request.on_failure(einfo, return_ok=return_ok)
        except Exception as error:
            # MemoryError is raised again there; a result backend may be gone.
            logger.error("The end of %s was not reported in full: %s", self._id, saferepr(error))
        return self._settled.how or ACKNOWLEDGED

    def _rejected(self, einfo: Any, how: str, is_late: bool) -> bytes:
        reject = _cause(einfo)
        if how == REQUEUED:
            return _line("snooze", id=self._id, delay_ms=0)
        if reject.requeue:
            return _line("done", id=self._id)
        error = f"Rejected: {reject.reason}" if reject.reason else "Rejected"
        return _line("failed", id=self._id, error=one_line(error), detail=text_of(safe_str(einfo.traceback)))

    def _failed(self, einfo: Any) -> bytes:
        detail = text_of(safe_str(einfo.traceback), keep_end=True)
        error = saferepr(_cause(einfo))
        if _STORING.search(detail):
            backend = sanitized(self._task.app.conf.result_backend)
            error = f"the task succeeded, but its result cannot be stored in {backend}: {error}"
        return _line("failed", id=self._id, error=text_of(error), detail=detail)

    def _done(self, how: str, error: Any, einfo: Any) -> bytes:
        if not self._work._tells_events:
            return _line("done", id=self._id)
        of_it = {"exception": text_of(saferepr(error)), "traceback": text_of(safe_str(einfo.traceback), keep_end=True)}
        return _line("done", id=self._id, **{how: of_it})


def _limited(tracer: _Tracer, request: Dict[str, Any]) -> Tuple[Any, Any, Any, Any]:
    """The tracer as a function of ours: limits are raised in what it calls."""
    return tracer(request["id"], request["args"], request["kwargs"], request)


def _cause(einfo: Any) -> Any:
    error = einfo.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _line(frame: str, **body: Any) -> bytes:
    return encoded(dumps({frame: body}))
