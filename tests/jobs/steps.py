"""A step that does what its job's payload says: `{"STEP": {…}}`, of a task that wipes `{"wipe-STEP": {…}}`, of an item its own payload.

`began.txt` has a line for each task that was begun, `done.txt` for each that came to its end: JOB STEP INDEX ID.
What is to be good on a later attempt is so once the file `good` is there.
"""

import os
import signal
import time

from asynctask_worker import Dead, Malformed, Snooze, run, worker

PAGE = 1000


def append(name, task, number):
    file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    wipe = "wipe-" if task.job.wipe else ""
    os.write(file, f"{task.job.id} {wipe}{task.job.step} {number} {task.id}\n".encode())
    os.close(file)


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


def split(do, task):
    """Pages of items: `items` of them, those whose numbers are in `bad` are dead letters, those in `hold` wait for the file `gate`."""
    first, most = do.get("from", 0), do["items"]
    for number in range(first, min(first + do.get("page", PAGE), most)):
        item = dict(do.get("each", {}), n=number)
        if number in do.get("bad", []):
            item["fail"] = f"item {number} is bad"
        if number in do.get("hold", []):
            item["wait"] = "gate"
        task.item(item)
    if first + do.get("page", PAGE) < most:
        task.more({**do, "from": first + do.get("page", PAGE)})


@worker("steps")
def steps(payload, task):
    if task.job is None:
        return None
    name = ("wipe-" if task.job.wipe else "") + task.job.step
    is_good = os.path.exists("good")
    do = payload if "n" in payload or "items" in payload else payload.get(name, {})
    number = do.get("n", f"from-{do['from']}" if "from" in do else "-")
    append("began.txt", task, number)
    if "say" in do:
        print(do["say"], flush=True)
    if "wait" in do:
        wait_for(do["wait"])
    if "kill" in do and not is_good:
        os.kill(os.getpid(), getattr(signal, do["kill"]))
    if "fail" in do and not is_good:
        return Dead(do["fail"])
    if "malformed" in do and not is_good:
        return Malformed(do["malformed"])
    if "raise" in do and not is_good:
        raise ValueError(do["raise"])
    if "memo" in do and task.memo is None:
        return Snooze(do.get("snooze", 0.05), memo=do["memo"])
    if "items" in do:
        split(do, task)
    for start in do.get("start", []):
        task.start(start["pipeline"], start.get("payload", {}), start.get("id"))
    if "long" in do:
        return "x" * do["long"]
    append("done.txt", task, number)
    if "inputs" in do:
        return task.job.inputs
    return do.get("result")


if __name__ == "__main__":
    run()
