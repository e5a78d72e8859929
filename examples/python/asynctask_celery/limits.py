"""Raises an exception in the main thread when its time is over: soft time limits, and bounds of our own.

A thread sends the main thread the signal that Celery's pool uses for soft limits (USR1), which also interrupts what waits in a
system call. The exception is raised only in what a limited function calls, never in that function or in what stands around
it: the signal's function looks at the frames it has interrupted, and is called again after a tenth of a second if it did nothing.
So a limit that comes with the end of its task hits neither this package nor the next task.

Setting a limit costs a look at the clock: the thread wakes when the earliest limit that it knows is over, and looks then.
"""

import os
import signal
import threading
import time
from types import CodeType, FrameType
from typing import Any, Callable, Optional, Set, Type

_AGAIN = 0.1
_NEVER = float("inf")


class Limits:
    """The one limit that the main thread has at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: Optional[float] = None
        self._wakes_at = _NEVER
        self._raises: Type[BaseException] = TimeoutError
        self._codes: Set[CodeType] = set()
        self._main = threading.main_thread()
        self._thread: Optional[threading.Thread] = None
        self.is_over = False
        """Whether the last limit was passed."""
        signal.signal(signal.SIGUSR1, self._signalled)
        # A child of a task has its own time.
        os.register_at_fork(after_in_child=self._forked)

    def covers(self, function: Callable[..., Any]) -> None:
        """Exceptions may be raised in what this function calls, and in nothing else."""
        self._codes.add(function.__code__)

    def begin(self, seconds: float, raises: Type[BaseException]) -> None:
        """From now on the main thread has so much time."""
        self.is_over = False
        self._raises = raises
        due = time.monotonic() + seconds
        self._due = due
        # Looked at after it was set: the thread does the two in the other order.
        if due < self._wakes_at:
            self._wake()

    def end(self) -> None:
        """There is no limit any more."""
        self._due = None

    def _wake(self) -> None:
        if self._thread is None:
            # It holds nothing of its own and ends with the process.
            self._thread = threading.Thread(target=self._watch, name="asynctask-limits", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.notify()

    def _watch(self) -> None:
        # Each signal of the process is for the main thread.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        with self._changed:
            while True:
                self._wakes_at = _NEVER
                due = self._due
                if due is None:
                    self._changed.wait()
                    continue
                left = due - time.monotonic()
                if left <= 0:
                    signal.pthread_kill(self._main.ident or 0, signal.SIGUSR1)
                    left = _AGAIN
                self._wakes_at = time.monotonic() + left
                self._changed.wait(min(left, threading.TIMEOUT_MAX))

    def _signalled(self, _number: int, frame: Optional[FrameType]) -> None:
        if self._due is None or time.monotonic() < self._due:
            return
        inner = frame and frame.f_back
        while inner is not None and inner.f_code not in self._codes:
            inner = inner.f_back
        if inner is not None:
            # Once, as Celery's pool does: what the task does then is its own affair, until the hard limit.
            self._due = None
            self.is_over = True
            raise self._raises()

    def _forked(self) -> None:
        self._changed = threading.Condition()
        self._due = None
        self._wakes_at = _NEVER
        self._thread = None
