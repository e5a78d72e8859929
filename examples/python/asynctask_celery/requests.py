"""Makes the objects that Celery's worker has of a message: what its hooks, signals and result backends are given.

A task that succeeds needs none of them but its `Context`, which the tracer makes. One that fails, is lost or is looked at by a
receiver of `task_received` gets a `Request` of the class that the task names, so that what Celery does with each kind of end
is done by the version of Celery that the application has.
"""

from typing import Any, Optional

from celery import Celery
from celery.app.task import Context
from celery.utils.imports import symbol_by_name

from .messages import Reader, Received

ACKNOWLEDGED = "acknowledged"
REJECTED = "rejected"
REQUEUED = "requeued"


class Settled:
    """What a request would tell the broker. `how` is None until it says something."""

    def __init__(self) -> None:
        self.how: Optional[str] = None

    def acknowledge(self, *_: Any) -> None:
        """`on_ack` of a request."""
        self.how = ACKNOWLEDGED

    def reject(self, _logger: Any, _errors: Any, requeue: bool = False) -> None:
        """`on_reject` of a request."""
        self.how = REQUEUED if requeue else REJECTED


class Requests:
    """Makes requests of an application."""

    def __init__(self, app: Celery, hostname: str, reader: Reader) -> None:
        self._app = app
        self._hostname = hostname
        self._reader = reader

    def request(self, task: Any, received: Received, settled: Settled) -> Any:
        """A request as the worker's strategy makes it; may raise what Celery raises for a wrong `eta` or `expires`."""
        message = self._reader.message(received)
        request = received.request
        decoded = {}
        if received.is_decoded:
            decoded = {"body": (request["args"], request["kwargs"], received.embed), "headers": request}
        kind = symbol_by_name(task.Request)
        return kind(
            message,
            on_ack=settled.acknowledge,
            on_reject=settled.reject,
            app=self._app,
            hostname=self._hostname,
            eventer=None,
            task=task,
            decoded=received.is_decoded,
            utc=received.utc,
            **decoded,
        )


def context(received: Received) -> Context:
    """What result backends read of a task that is not registered here."""
    return Context(received.request)


def context_of_headers(task_id: str, headers: Any, properties: Any) -> Context:
    """The same of a message that cannot be read: its id, and what its headers say of its place among others."""
    known = {name: headers[name] for name in ("root_id", "parent_id", "group", "group_index") if headers.get(name)}
    return Context(
        known,
        id=task_id,
        task=headers.get("task"),
        args=[],
        kwargs={},
        reply_to=properties.get("reply_to"),
        correlation_id=properties.get("correlation_id") or task_id,
        delivery_info={},
        headers={},
    )
