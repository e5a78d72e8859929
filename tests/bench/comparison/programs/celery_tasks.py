"""Celery's tasks, and what fills a queue with them."""

import os
import time
from typing import BinaryIO, List

import celery
import meter

PACE = 0.03
"""Seconds between two tasks of an idle system."""

_lines: List[BinaryIO] = []

app = celery.Celery("comparison", broker=os.environ["COMPARE_BROKER"])
app.conf.update(
    task_default_queue=os.environ["COMPARE_QUEUE"],
    task_acks_late=True,
    # 64 messages for the two processes.
    worker_prefetch_multiplier=32,
    task_ignore_result=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(_payload: str) -> None:
    meter.begin()
    meter.end()


@app.task(name="busy")
def busy(_payload: str) -> None:
    meter.begin()
    meter.use_processor()
    meter.end()


@app.task(name="stamp")
def stamp(sent: int) -> None:
    began = time.monotonic_ns()
    if not _lines:
        _lines.append(open(meter.folder() / f"{os.getpid()}.starts", "wb", buffering=0))
    _lines[0].write(f"{sent} {began}\n".encode())


def pace(count: int) -> None:
    """One task after the other, with so much time between them that each finds nothing to do."""
    for _ in range(count):
        stamp.delay(time.monotonic_ns())
        time.sleep(PACE)


def fill(name: str, count: int, length: int) -> None:
    task, arguments = app.tasks[name], (meter.text(length),)
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            task.apply_async(arguments, producer=producer)
