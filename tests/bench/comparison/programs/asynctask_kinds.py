"""The kinds of `tests/bench/measured.rs` in Python, with the module of examples/python."""

import os
import time
from typing import Any, BinaryIO, Dict, List

import meter
from asynctask_worker import Task, run, worker

_lines: List[BinaryIO] = []


@worker("noop")
def noop(_payload: Any, _task: Task) -> None:
    meter.begin()
    meter.end()


@worker("busy")
def busy(_payload: Any, _task: Task) -> None:
    meter.begin()
    meter.use_processor()
    meter.end()


@worker("mixed")
def mixed(payload: Dict[str, Any], _task: Task) -> None:
    began = time.monotonic_ns()
    if payload["is_long"]:
        time.sleep(payload["milliseconds"] / 1000)
    else:
        meter.use_processor(payload["milliseconds"] * 1_000_000)
    ended = time.monotonic_ns()
    if not _lines:
        _lines.append(open(meter.folder() / f"{os.getpid()}.mix", "wb", buffering=0))
    _lines[0].write(f"{payload['sent']} {began} {ended} {int(payload['is_long'])}\n".encode())


run()
