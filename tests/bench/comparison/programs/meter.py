"""What a worker process in Python tells of its tasks: when the first one began, when the last one ended, how many
there were.

A file for each thread that does tasks, in the folder $ASYNCTASK_BENCH_RECORDS: three numbers of 64 bits on the
machine's monotonic clock, as `tests/bench/measured.rs` writes them. It is mapped into memory, so a task costs no
system call, and who waits for the end can read it while the process lives.
"""

import itertools
import json
import mmap
import os
import struct
import threading
import time
from pathlib import Path

BUSY = 1_000_000
"""Nanoseconds of processor time of a busy task."""

_here = threading.local()
_numbers = itertools.count()


class _Record:
    def __init__(self) -> None:
        path = folder() / f"{os.getpid()}-{next(_numbers)}.record"
        path.write_bytes(bytes(struct.calcsize("3q")))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.numbers = memoryview(self._map).cast("q")


def folder() -> Path:
    return Path(os.environ["ASYNCTASK_BENCH_RECORDS"])


def begin() -> None:
    """A task begins in this thread."""
    if not hasattr(_here, "numbers"):
        # Kept with its numbers: a record that is collected would unmap them.
        _here.record = _Record()
        _here.numbers = _here.record.numbers
        _here.numbers[0] = time.monotonic_ns()


def end() -> None:
    """The task of this thread ends."""
    numbers = _here.numbers
    numbers[1] = time.monotonic_ns()
    numbers[2] += 1


def use_processor(nanoseconds: int = BUSY) -> None:
    """Wall time would pass for all threads of a process at once, though one of them runs."""
    until = time.thread_time_ns() + nanoseconds
    while time.thread_time_ns() < until:
        pass


def text(length: int) -> str:
    """A payload that is `length` bytes of JSON."""
    payload = "x" * (length - 2)
    assert len(json.dumps(payload)) == length
    return payload
