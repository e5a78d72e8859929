"""Tasks that are revoked before they come, with a result backend that keeps states: whoever waits hears of it at once."""

import os
import time

import pytest
from celery import states
from celery.exceptions import TaskRevokedError
from celery.utils import uuid
from conftest import PATIENCE, lines, until

from shop import app, tasks

NODE = os.environ["SHOP_NODE"]


def revoke(*ids):
    [reply] = app.control.revoke(list(ids), reply=True, timeout=10, destination=[NODE])
    assert "flagged as revoked" in reply[NODE]["ok"]


def test_one_that_is_not_due_has_its_result_at_once():
    result = tasks.nap.apply_async((1,), countdown=3600)
    revoke(result.id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)


def test_the_reply_comes_when_it_is_stored_and_not_for_what_another_node_has_begun():
    # A worker that is ready may still be loading what stores results; from then on it takes milliseconds.
    until(lambda: tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3, "it works")
    started, waiting = uuid(), uuid()
    app.backend.store_result(started, {"hostname": "celery@elsewhere"}, states.STARTED)
    revoke(started, waiting)
    assert (app.backend.get_state(started), app.backend.get_state(waiting)) == (states.STARTED, states.REVOKED)


def test_while_all_processes_are_busy_the_reply_does_not_wait(path):
    results = [tasks.nap.delay(3) for _ in range(2)]
    until(lambda: len(app.control.inspect([NODE]).active()[NODE]) == 2, "two run")
    waits = tasks.note.delay(path, "it ran")
    far = tasks.note.apply_async((path, "it ran, too"), countdown=3600)
    begun = time.monotonic()
    revoke(waits.id, far.id)
    # Celery's command line waits for a second.
    assert time.monotonic() - begun < 1.0
    assert [result.get(timeout=PATIENCE) for result in results] == [3, 3]
    for revoked in (waits, far):
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=PATIENCE)
    assert lines(path) == []
