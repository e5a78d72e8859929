"""One task at a time, results over the rpc backend."""

import datetime
import time

import pytest
from celery import chain, group, uuid
from celery.exceptions import MaxRetriesExceededError, NotRegistered, TaskRevokedError, TimeLimitExceeded
from conftest import IS_OURS, PATIENCE, asynctask, expect_letter, lines, ours, texts, until

from shop import app, tasks

LATE = 1.0
"""Seconds that a delayed task may be late."""


def get(result):
    return result.get(timeout=PATIENCE)


def test_a_result():
    assert get(tasks.add.delay(2, 3)) == 5
    assert get(tasks.add.apply_async(kwargs={"x": "a", "y": "b"})) == "ab"


def test_values_that_json_has_no_word_for():
    moment = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.timezone.utc)
    assert get(tasks.add.delay([moment], [b"\xff"])) == [moment, b"\xff"]
    assert get(tasks.add.delay("grün", " ☃")) == "grün ☃"


def test_an_exception_reaches_the_caller():
    result = tasks.fail.delay("no luck")
    with pytest.raises(ValueError, match="no luck") as caught:
        get(result)
    assert caught.type is ValueError
    assert "raise ValueError(text)" in result.traceback
    expect_letter(result.id, "failed", "no luck")


def test_wrong_arguments():
    # The producer's own check is by-passed, as one in another program would.
    result = app.send_task("shop.tasks.add", (1, 2, 3))
    with pytest.raises(TypeError):
        get(result)
    expect_letter(result.id, "failed", "add()")


def test_a_task_that_nobody_has():
    result = app.send_task("shop.tasks.ad", (1, 2))
    with pytest.raises(NotRegistered):
        get(result)
    expect_letter(result.id, "failed", "shop.tasks.ad")
    expect_letter(result.id, "failed", "shop.tasks.add")


def test_a_chain():
    result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4)).delay()
    assert get(result) == 10
    assert get(result.parent) == 6 and get(result.parent.parent) == 3


def test_a_group():
    assert get(group(tasks.add.s(n, n) for n in range(10)).delay()) == [2 * n for n in range(10)]


def test_links(path):
    result = tasks.add.apply_async((1, 2), link=[tasks.note_number.s(path), tasks.note.si(path, "fixed")])
    assert get(result) == 3
    until(lambda: sorted(texts(path)) == ["3", "fixed"], f"both links have run: {texts(path)}")


def test_errbacks(path):
    errbacks = [tasks.told_of_failure.s(path), tasks.told_of_id.s(path)]
    result = tasks.fail.apply_async(("torn",), link_error=errbacks)
    with pytest.raises(ValueError):
        get(result)
    wanted = sorted([f"{result.id} ValueError torn", result.id])
    until(lambda: sorted(texts(path)) == wanted, f"both errbacks have run: {texts(path)}")


def test_a_chain_that_breaks(path):
    broken = chain(tasks.fail.s("broken"), tasks.note.si(path, "behind it")).apply_async()
    with pytest.raises(ValueError, match="broken"):
        get(broken.parent)
    with pytest.raises(ValueError, match="broken"):
        get(broken)
    assert texts(path) == []


def test_a_retry_with_a_countdown(path):
    result = tasks.again.delay(path, 2)
    assert get(result) == 2
    assert texts(path) == ["try 0", "try 1", "try 2"]
    moments = [moment for moment, _ in lines(path)]
    for before, after in zip(moments, moments[1:]):
        assert 1 <= after - before <= 1 + LATE + 0.5, moments


def test_retries_of_a_task_that_was_delayed(path):
    """What was said of one delay is not taken for the next one, though Celery gives a retry all headers of its message."""
    sent = time.time()
    stale = {"asynctask-not-before": 1, "asynctask-attempt": 1, "asynctask-deliveries": 19, "asynctask-expires-at": 2}
    another = {**stale, "asynctask-sending": "another one"}
    result = tasks.again.apply_async((path, 1), countdown=1, headers=another)
    assert get(result) == 1
    moments = [moment for moment, _ in lines(path)]
    assert 1 <= moments[0] - sent <= 1 + LATE + 0.5, moments
    assert 1 <= moments[1] - moments[0] <= 1 + LATE + 0.5, moments


def test_retries_that_are_used_up(path):
    result = tasks.again.delay(path, 100)
    with pytest.raises((ValueError, MaxRetriesExceededError), match="not yet"):
        get(result)
    assert texts(path) == ["try 0", "try 1", "try 2", "try 3"]
    expect_letter(result.id, "failed", "not yet")


def test_retries_by_themselves(path):
    result = tasks.never.delay(path)
    with pytest.raises(KeyError, match="never"):
        get(result)
    assert texts(path) == ["never"] * 3


def test_no_result_is_kept(path):
    result = tasks.quiet.delay(path)
    until(lambda: texts(path) == ["quiet"], "it has run")
    assert result.get(timeout=1) is None
    asked = tasks.add.apply_async((1, 2), ignore_result=True)
    assert asked.get(timeout=1) is None


def test_what_a_task_reads_of_its_request():
    result = tasks.told.delay()
    told = get(result)
    assert told["id"] == told["correlation_id"] == told["root_id"] == result.id
    assert (told["retries"], told["parent_id"], told["is_eager"], told["called_directly"]) == (0, None, False, False)
    assert told["reply_to"] == app.backend.oid
    assert told["hostname"].startswith("asynctask@" if IS_OURS else "celery@"), told
    info = told["delivery_info"]
    assert (info["exchange"], info["routing_key"], info["redelivered"]) == ("", app.conf.task_default_queue, False)
    assert info["priority"] == 0, "what the producer gave, or Celery's own default"
    assert told["name"] == "shop.tasks.told"


def test_headers_of_the_producer():
    sent = {"tenant": "a", "depth": {"one": [1, None, True]}}
    assert get(tasks.headers.apply_async(("tenant", "depth"), headers=sent)) == sent


@pytest.mark.parametrize("how", ["countdown", "eta", "naive eta"])
def test_a_delay(path, how):
    due = time.time() + 2
    moment = datetime.datetime.fromtimestamp(due, datetime.timezone.utc)
    when = {"countdown": {"countdown": 2}, "eta": {"eta": moment}, "naive eta": {"eta": moment.replace(tzinfo=None)}}
    result = tasks.note.apply_async((path, how), **when[how])
    assert get(result) == how
    ((began, _),) = lines(path)
    assert due <= began <= due + LATE, f"{began - due:.3f} s after it was due"


def test_an_expired_task(path):
    ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
    result = tasks.note.apply_async((path, "too late"), expires=ago)
    with pytest.raises(TaskRevokedError, match="expired"):
        get(result)
    assert texts(path) == []
    expect_letter(result.id, "expired", "")


def test_a_task_that_expires_while_it_is_delayed(path):
    result = tasks.note.apply_async((path, "too late"), countdown=1.5, expires=0.5)
    with pytest.raises(TaskRevokedError, match="expired"):
        get(result)
    assert texts(path) == []
    expect_letter(result.id, "expired", "")


@ours
@pytest.mark.parametrize("protocol", [1, 2])
def test_an_expired_task_that_a_person_wants_all_the_same(path, protocol):
    ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
    if protocol == 1:
        with app.producer_pool.acquire(block=True) as producer:
            result = send_protocol_1(producer, "shop.tasks.note", (path, "wanted"), expires=ago)
    else:
        result = tasks.note.apply_async((path, "wanted"), expires=ago)
    expect_letter(result.id, "expired", "")
    assert texts(path) == []
    asynctask("failed", "retry", app.conf.task_default_queue, result.id)
    until(lambda: texts(path) == ["wanted"], "it has not run")


def test_a_task_that_is_in_time():
    assert get(tasks.add.apply_async((1, 2), expires=60)) == 3


def test_soft_limits():
    assert get(tasks.soft.delay()) == "told in time"
    assert get(tasks.endless.apply_async(soft_time_limit=1)) == "told in time"


@pytest.mark.parametrize("how", ["attribute", "header"])
def test_a_hard_limit(how):
    watch = time.monotonic()
    result = tasks.hard.delay() if how == "attribute" else tasks.nap.apply_async((60,), time_limit=2)
    with pytest.raises(TimeLimitExceeded):
        get(result)
    assert 2 <= time.monotonic() - watch <= 10
    expect_letter(result.id, "timeout", "2")
    assert get(tasks.add.delay(1, 1)) == 2, "the others go on"


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_a_compressed_message(compression):
    text = "all the same " * 10_000
    assert get(tasks.add.apply_async((text, "!"), compression=compression)) == text + "!"


def test_a_task_that_turns_its_message_away(path):
    result = tasks.turn_away.delay(path)
    until(lambda: texts(path) == ["turned away"], "it has run")
    expect_letter(result.id, "failed", "not for us")
    result = tasks.turn_away_once.delay(path + ".once")
    assert get(result) == "done"
    assert texts(path + ".once") == ["came", "came"]


def test_a_task_that_wants_no_result(path):
    result = tasks.look_away.delay(path)
    until(lambda: texts(path) == ["looked away"], "it has run")
    assert get(tasks.add.delay(1, 1)) == 2
    assert result.state == "PENDING"


def test_a_chain_from_inside_of_a_task(path):
    tasks.follow.delay(path)
    until(lambda: texts(path) == ["3"], "the chain has run")


def test_a_producer_of_the_first_protocol():
    with app.producer_pool.acquire(block=True) as producer:
        result = send_protocol_1(producer, "shop.tasks.add", (20, 22))
        assert get(result) == 42
        result = send_protocol_1(producer, "shop.tasks.told", ())
        assert get(result)["id"] == result.id


def send_protocol_1(producer, name, arguments, expires=None):
    """As `task_protocol = 1` has it; the setting is read once for a process."""
    task_id = uuid()
    message = app.amqp.as_task_v1(task_id, name, args=arguments, kwargs={}, expires=expires, reply_to=app.backend.oid)
    app.backend.on_task_call(producer, task_id)
    app.amqp.send_task_message(producer, name, message, queue=app.conf.task_default_queue)
    return app.AsyncResult(task_id)
