"""The session's kind in Python: it does what `demo_sleep_worker` does with the same payload."""

import ctypes
import os
import threading

from asynctask_worker import Dead, Retry, run, worker


@worker("session")
def session(payload, task):
    then = payload.get("then", "ok")
    if then == "error":
        raise RuntimeError("Oops!")
    if then == "dead":
        raise Dead("asked to")
    if then == "retry_once" and task.attempt == 1:
        raise Retry(0.1)
    if then == "abort":
        os.abort()
    if then == "segfault":
        ctypes.string_at(0)
    if then == "hang":
        threading.Event().wait()
    print("SESSION did", payload["n"])


run()
