"""Stores that tasks are revoked which are not here: they wait at the broker, or another node has them.

What is stored is what Celery's worker stores when it is told: REVOKED, where the backend has no state of the task, or one in which
no worker has begun it. It is done in a thread, because the main thread may be in a task for long, and because a backend that does not
answer is to delay no task. A thread has a backend of its own, as Celery makes them, and ends when nothing is left to store.
"""

import logging
import signal
import threading
from collections import deque
from typing import Callable, Deque, List, Tuple

from celery import Celery, states
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from celery.utils.saferepr import saferepr

MOST = 10_000
"""Ids that wait while the backend does not answer. More are left: their results are stored when the tasks come."""

_NOT_BEGUN = (states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED)

logger = logging.getLogger("celery.worker")


class Revoked:
    """Stores results of revoked tasks, one order after the other."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._orders: Deque[Tuple[List[str], Callable[[], None]]] = deque()
        self._waiting = 0
        self._is_working = False

    def store(self, ids: List[str], done: Callable[[], None]) -> None:
        """Stores that these are revoked, and calls `done` in any case."""
        with self._lock:
            if self._waiting + len(ids) > MOST:
                logger.warning("No result was stored for %d revoked tasks: too many wait for the backend", len(ids))
                ids = []
            self._waiting += len(ids)
            self._orders.append((ids, done))
            if self._is_working:
                return
            self._is_working = True
        threading.Thread(target=self._work, name="asynctask-revoked", daemon=True).start()

    def _work(self) -> None:
        # Each signal of the process is for the main thread.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        while True:
            with self._lock:
                if not self._orders:
                    self._is_working = False
                    return
                ids, done = self._orders.popleft()
            try:
                self._store(ids)
            finally:
                with self._lock:
                    self._waiting -= len(ids)
                done()

    def _store(self, ids: List[str]) -> None:
        stored = 0
        try:
            backend = self._app.backend
            # They keep no states: who waits over RPC is told when the message comes that says where it waits.
            if isinstance(backend, (DisabledBackend, RPCBackend)):
                return
            for task_id in ids:
                if backend.get_state(task_id) in _NOT_BEGUN:
                    backend.mark_as_revoked(task_id, reason="revoked", store_result=True)
                stored += 1
        except Exception as error:
            logger.warning("No result was stored for %d revoked tasks: %s", len(ids) - stored, saferepr(error))
