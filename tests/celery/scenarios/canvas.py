"""Canvases, which need a backend that keeps results: Redis, or a folder."""

import time
from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, WorkerLostError
from conftest import IS_OURS, PATIENCE, asynctask, expect_letter, letter, letters, ours, texts, until

from shop import app, tasks

QUEUE = app.conf.task_default_queue


def get(result):
    return result.get(timeout=PATIENCE)


def test_a_chord_with_a_hundred_members():
    result = chord((tasks.add.s(n, n) for n in range(100)), tasks.total.s()).delay()
    assert get(result) == sum(2 * n for n in range(100))


def test_a_nested_canvas():
    inner = chord([tasks.add.s(1), tasks.add.s(2), chain(tasks.add.s(3), tasks.add.s(4))], tasks.total.s())
    canvas = chain(tasks.add.s(1, 1), inner, group(tasks.add.s(10), tasks.add.s(20)), tasks.total.s())
    # 2; 3 + 4 + 9 = 16; 26 and 36; 62.
    assert get(canvas.delay()) == 62


def test_chords_in_a_chord():
    inner = [chord([tasks.add.s(n, k) for k in range(3)], tasks.total.s()) for n in range(3)]
    assert get(chord(inner, tasks.total.s()).delay()) == sum(n + k for n in range(3) for k in range(3))


def test_a_group_of_chains():
    result = group(chain(tasks.add.s(n, 1), tasks.add.s(1)) for n in range(5)).delay()
    assert get(result) == [n + 2 for n in range(5)]
    assert all(child.successful() for child in result.children)


def test_a_task_that_becomes_another_one():
    assert get(tasks.replaced.delay(41)) == 42
    assert get(chain(tasks.replaced.s(1), tasks.add.s(10)).delay()) == 12


def test_a_group_from_inside_of_a_task():
    results = [app.AsyncResult(task_id) for task_id in get(tasks.spread.delay(4))]
    assert [get(result) for result in results] == [0, 2, 4, 6]


def test_what_is_kept_beside_a_result():
    result = tasks.add.delay(1, y=2)
    assert get(result) == 3
    assert (result.name, result.args, result.kwargs, result.retries) == ("shop.tasks.add", [1], {"y": 2}, 0)
    assert result.queue == QUEUE
    assert result.worker.startswith("asynctask@" if IS_OURS else "celery@")


def test_a_chord_with_a_member_that_fails(path):
    members = [tasks.add.s(1, 1), tasks.fail.s("one of them"), tasks.add.s(2, 2)]
    result = chord(members, tasks.total.s().on_error(tasks.told_of_failure.s(path))).delay()
    # Of the chord or of its member: what is stored first.
    with pytest.raises((ChordError, ValueError), match="one of them"):
        get(result)
    until(lambda: len(texts(path)) == 1, f"the errback of the chord has run once: {texts(path)}")


def test_a_task_that_is_killed():
    result = tasks.die.delay()
    with pytest.raises(WorkerLostError):
        get(result)
    assert result.state == "FAILURE"
    expect_letter(result.id, "crash", "SIGSEGV", QUEUE)


@ours
def test_a_chord_with_a_member_that_is_killed(path):
    mended = Path(f"{path}.mended")
    members = [tasks.add.s(1, 1), tasks.die_without.s(str(mended)), tasks.add.s(2, 2)]
    errback = tasks.told_of_failure.s(path)
    result = chord(members, tasks.total.s().on_error(errback)).delay()
    watch = time.monotonic()
    with pytest.raises((ChordError, WorkerLostError), match="SIGSEGV"):
        get(result)
    took = time.monotonic() - watch
    assert took <= 5, f"it took {took:.1f} s"
    until(lambda: len(texts(path)) == 1, "the errback of the chord has run")

    victim = until(lambda: [one for one in result.parent.children if one.state == "FAILURE"], "no member failed")
    assert len(victim) == 1
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        get(victim[0])
    found = letter(victim[0].id, QUEUE)
    assert found["reason"] == "crash" and found["exit"]["signal"] == "SIGSEGV", found
    # Mended, it runs with the bytes that it came with, and its result is the new one.
    mended.touch()
    asynctask("failed", "retry", QUEUE, victim[0].id)
    # Asked anew, since a result that has come is remembered.
    until(lambda: app.AsyncResult(victim[0].id).state == "SUCCESS", "it has not run again")
    assert app.AsyncResult(victim[0].id).result == "mended"
    assert victim[0].id not in letters(QUEUE)


@ours
def test_a_chain_whose_link_is_killed(path):
    result = chain(tasks.add.s(1, 1), tasks.die.si(), tasks.note.si(path, "behind it")).delay()
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        get(result)
    assert texts(path) == []
