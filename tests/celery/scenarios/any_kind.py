"""Kinds that know nothing of Celery, from Celery producers."""

import pytest
from celery import chain, group
from conftest import FOLDER, PATIENCE, expect_letter, ours, until

from shop import app, tasks

pytestmark = ours


def send(name, *args, queue="thumbs", **kwargs):
    return app.send_task(name, args, kwargs, queue=queue)


def get(result):
    return result.get(timeout=PATIENCE)


def test_a_shell_script_gives_a_result():
    got = get(send("resize", "a.jpg", width=100))
    assert got == {"got": {"task": "resize", "args": ["a.jpg"], "kwargs": {"width": 100}}}


def test_a_shell_script_that_says_nothing():
    assert get(send("silent")) is None


def test_a_shell_script_that_fails():
    result = send("broken", "a.jpg")
    with pytest.raises(Exception, match="no such picture") as caught:
        get(result)
    assert caught.type.__name__ == "WorkerExit", caught.type
    expect_letter(result.id, "error", "no such picture", "thumbs")


def test_a_shell_script_that_is_killed():
    result = send("killed")
    with pytest.raises(Exception, match="SIGKILL") as caught:
        get(result)
    assert caught.type.__name__ in ("WorkerExit", "WorkerLostError"), caught.type
    expect_letter(result.id, "crash", "SIGKILL", "thumbs")


def test_a_worker_with_frames_gives_a_result():
    assert get(send("sum", 1, 2, 3, queue="framed")) == {"sum": 6}


def test_a_worker_with_frames_that_fails():
    result = send("sum", 1, None, queue="framed")
    with pytest.raises(Exception, match="null is no number") as caught:
        get(result)
    assert caught.type.__name__ == "WorkerExit", caught.type
    expect_letter(result.id, "failed", "null is no number", "framed")


def test_nobody_waits_for_a_result():
    result = app.send_task("sum", (1,), queue="framed", ignore_result=True)
    path = FOLDER / "framed"
    until(lambda: f"{result.id}" in path.read_text(), "it was not done")


def test_a_group_over_both_languages():
    mixed = group(
        app.signature("sum", (n, 1), queue="framed") if n % 2 else tasks.add.s(n, 1) for n in range(6)
    ).apply_async()
    assert get(mixed) == [{"sum": n + 1} if n % 2 else n + 1 for n in range(6)]
