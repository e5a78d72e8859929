"""Its tasks: small, and each does one thing that real ones do."""

import os
import signal
import time

from celery import chain, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from shop import app


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail(text):
    raise ValueError(text)


@app.task
def note(path, text):
    """Leaves a line with the moment behind. One write, so that lines of several processes do not mix."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{time.time():.6f} {text}\n".encode())
    return text


@app.task(ignore_result=True)
def quiet(path):
    note(path, "quiet")


@app.task
def nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(bind=True, max_retries=3)
def again(self, path, failures):
    """Fails so often, and asks for a retry in a second each time."""
    note(path, f"try {self.request.retries}")
    if self.request.retries < failures:
        raise self.retry(countdown=1, exc=ValueError("not yet"))
    return self.request.retries


@app.task(autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0.2, retry_kwargs={"max_retries": 2})
def never(path):
    note(path, "never")
    raise KeyError("never")


@app.task(bind=True)
def told(self):
    """What tasks read of their request."""
    names = "id retries hostname reply_to correlation_id root_id parent_id group is_eager called_directly"
    told = {name: getattr(self.request, name) for name in names.split()}
    return {**told, "delivery_info": dict(self.request.delivery_info), "name": self.name}


@app.task(bind=True)
def headers(self, *names):
    """Headers of the producer's own."""
    return {name: (self.request.headers or {}).get(name) for name in names}


@app.task(soft_time_limit=1)
def soft():
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "told in time"


@app.task
def endless():
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "told in time"


@app.task(time_limit=2)
def hard():
    time.sleep(60)


@app.task
def die(number=signal.SIGSEGV):
    os.kill(os.getpid(), number)
    # A signal of its own comes before the call returns.
    return "it lives"


@app.task
def die_without(path):
    """Dies of a segmentation fault, unless there is this file: then whatever was wrong is mended."""
    return "mended" if os.path.exists(path) else die()


@app.task(bind=True)
def turn_away(self, path):
    note(path, "turned away")
    raise Reject("not for us", requeue=False)


@app.task(bind=True)
def turn_away_once(self, path):
    """Puts the message back when it came for the first time."""
    note(path, "came")
    with open(path, "rb") as file:
        is_first = len(file.readlines()) == 1
    if is_first:
        raise Reject("later", requeue=True)
    return "done"


# Only a message that is not acknowledged yet can be rejected.
turn_away.acks_late = turn_away_once.acks_late = True


@app.task(bind=True)
def look_away(self, path):
    note(path, "looked away")
    raise Ignore()


@app.task
def told_of_failure(request, exc, traceback, path):
    """An errback of the present kind."""
    note(path, f"{request.id} {type(exc).__name__} {exc}")


@app.task
def told_of_id(task_id, path):
    """One of the old kind, which is a task of its own."""
    note(path, task_id)


@app.task(bind=True)
def replaced(self, x):
    raise self.replace(add.s(x, 1))


@app.task
def spread(count):
    """A group from inside of a task; the ids of its members."""
    return [member.id for member in group(add.s(n, n) for n in range(count)).apply_async()]


@app.task
def follow(path):
    """Sends on from inside of a task, with neither a wait nor a result."""
    chain(add.s(1, 2), note_number.s(path)).apply_async()


@app.task
def note_number(number, path):
    note(path, str(number))
    return number


@app.task(acks_late=True)
def step(number, chain_number, path):
    """One of a chain of three, of some milliseconds."""
    time.sleep(0.01)
    note(path, f"{chain_number} {number}")
    return number + 1
