"""What the scenarios share: producers' side of the application, and the dead letters as the command line shows them.

In the environment beside what `shop` reads:

    SHOP_WORKER   who works the queues: asynctask, or celery (its own worker, which proves that a scenario is right)
    SHOP_FOLDER   a folder for the files that tasks leave; the program finds its settings there
    ASYNCTASK     the program
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from shop import app

PATIENCE = 30
"""Seconds in which whatever is waited for has come, on a machine of two slow cores."""

FOLDER = Path(os.environ["SHOP_FOLDER"])
IS_OURS = os.environ["SHOP_WORKER"] == "asynctask"

ours = pytest.mark.skipif(not IS_OURS, reason="Celery's own worker does it otherwise, or not at all")


@pytest.fixture
def path(request):
    """A file of this scenario alone, which does not exist yet."""
    path = FOLDER / f"{app.conf.task_default_queue}.{request.node.name}.notes"
    assert not path.exists()
    return str(path)


def lines(path):
    """What `note` has left there so far: moments and texts."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        words = [line.rstrip("\n").split(" ", 1) for line in file]
    return [(float(moment), text) for moment, text in words]


def texts(path):
    return [text for _, text in lines(path)]


def until(condition, otherwise):
    """Waits, bounded, until it gives something, and gives that."""
    limit = time.monotonic() + PATIENCE
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < limit, f"after {PATIENCE} s: {otherwise}"
        time.sleep(0.05)


def asynctask(*arguments):
    """Runs a command of the program to its end; what it printed."""
    command = [os.environ["ASYNCTASK"], *arguments]
    ended = subprocess.run(command, cwd=FOLDER, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, f"{arguments}: {ended.stderr}{ended.stdout}"
    return ended.stdout


def letters(queue="celery"):
    """The dead letters of a queue, by the id of the task."""
    listed = asynctask("failed", "list", queue, "--json").splitlines()
    return {letter["id"]: letter for letter in map(json.loads, listed)}


def letter(task_id, queue="celery"):
    """A dead letter with everything that is known of it; waits for it. None where Celery works, which has none."""
    if not IS_OURS:
        return None
    until(lambda: task_id in letters(queue), f"{task_id} is no dead letter of {queue}")
    return json.loads(asynctask("failed", "show", queue, task_id, "--json"))


def expect_letter(task_id, reason, error, queue="celery"):
    """Holds if it is a dead letter for this reason, with these words in its error."""
    found = letter(task_id, queue)
    if found is not None:
        assert found["reason"] == reason and error in found["error"], found
