"""Finds the application and starts it as a child of Celery's prefork pool is started.

What is done is what libraries rely on: the object of the worker is Celery's own `Worker`, whose making imports the task
modules, sets up the log and sends `celeryd_init` and `worker_init` (which installs the fix-up for Django); then come
`worker_process_init` and `worker_ready`. Nothing of it consumes: no blueprint is started, no connection is opened.
"""

import os
import re
import socket
import warnings
from typing import Any, Optional

from billiard.process import current_process as billiard_process
from celery import Celery, signals
from celery._state import _set_task_join_will_block
from celery.app.trace import setup_worker_optimizations
from celery.app.utils import find_app
from celery.exceptions import SecurityError, SecurityWarning
from celery.utils.time import rate
from celery.worker import state as worker_state

from .logs import Logs
from .messages import one_line


class Refused(Exception):
    """The application was not found, or is none. One line."""


class Consumer:
    """Stands where Celery's signals name the consumer as their sender."""

    def __init__(self, worker: Any) -> None:
        self.app = worker.app
        self.controller = worker
        self.hostname: str = worker.hostname
        self.pid = os.getpid()
        self.pool = None
        self.event_dispatcher = None


class Application:
    """An application that is ready for tasks."""

    def __init__(self, app: Celery, name: str, worker: Any, logs: Logs) -> None:
        self.app = app
        self.name = name
        """As it is called in the log."""
        self.worker = worker
        self.hostname: str = worker.hostname
        self.consumer = Consumer(worker)
        self.logs = logs

    def ended(self) -> None:
        """Says to its code that this process ends."""
        signals.worker_process_shutdown.send(sender=self.hostname, pid=os.getpid(), exitcode=0)
        self.app.loader.shutdown_worker()
        signals.worker_shutdown.send(sender=self.worker)


def find(name: str) -> Celery:
    """The application of `shop`, `shop.celery` or `shop:app`."""
    try:
        app = find_app(name)
    except ModuleNotFoundError as error:
        # Of the application's own imports the traceback is worth more than a line.
        if error.name is None or not (name == error.name or re.split("[.:]", name)[0] == error.name):
            raise
        raise Refused(f'no application "{name}": {error}; looked for in {os.getcwd()} and in the module path') from None
    except AttributeError as error:
        raise Refused(f'no application "{name}": {error}') from None
    # `current_app` and the like are proxies.
    app = getattr(app, "_get_current_object", lambda: app)()
    if not isinstance(app, Celery):
        raise Refused(f'"{name}" is no application of Celery but of the type {type(app).__name__}')
    return app


def start(app: Celery, name: str, level: Optional[str]) -> Application:
    """Starts it in this process; `level` as for `celery worker -l`, else the master's."""
    hostname = os.environ.get("ASYNCTASK_CELERY_NODE") or f"asynctask@{socket.gethostname()}"
    _name_process()
    logs = Logs(app, level)
    app.set_current()
    # That it is root would be told by each process; with pickle it is still refused.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = _worker(app, hostname, logs.level)
    logs.are_set_up()
    signals.celeryd_after_setup.send(sender=hostname, instance=worker, conf=app.conf)
    _set_task_join_will_block(True)
    app.loader.init_worker_process()
    setup_worker_optimizations(app, hostname)
    worker_state.reset_state()
    signals.worker_process_init.send(sender=hostname)
    short = app.main if app.main and app.main != "__main__" else re.split("[.:]", name)[0]
    application = Application(app, short, worker, logs)
    signals.worker_ready.send(sender=application.consumer)
    return application


def _worker(app: Celery, hostname: str, level: str) -> Any:
    options = {"pool_cls": "prefork", "concurrency": 1, "loglevel": level, "logfile": None, "quiet": True}
    try:
        return app.Worker(app=app, hostname=hostname, **options)
    except SecurityError as error:
        raise Refused(f"Celery refuses to work for this application: {one_line(str(error))}") from None
    except (KeyError, ValueError, TypeError):
        wrong = _wrong_rate(app)
        if wrong is None:
            raise
        raise Refused(wrong) from None


def _wrong_rate(app: Celery) -> Optional[str]:
    """Of which task the rate is none, which Celery says without a name."""
    for name, task in sorted(app.tasks.items()):
        limit = getattr(task, "rate_limit", None)
        try:
            rate(limit)
        except (KeyError, ValueError, TypeError):
            return f'the rate_limit {limit!r} of the task "{one_line(name, 200)}" is no rate: 10, "10/s", "10/m" or "10/h"'
    return None


def _name_process() -> None:
    """What tasks and log formats read of a child of the pool: its name, and its number from 0 on."""
    slot = re.search(r"\[(\d+)\]$", os.environ.get("ASYNCTASK_SLOT", ""))
    number = int(slot.group(1)) if slot else 1
    process = billiard_process()
    process.index = number - 1
    process.name = f"ForkPoolWorker-{number}"
    # Its own object, unlike in Celery's children: so a task may start processes with the standard library.
    import multiprocessing

    multiprocessing.current_process().name = process.name
