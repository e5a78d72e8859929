"""Queues of all arguments. Those called `early` are declared by producers before there is a master, `late` by the master.

The settings of the master say of `untold` nothing that its producers declare: it exists, and is used as it is.
"""

import pytest
from conftest import FOLDER, PATIENCE, texts, until
from kombu import Exchange, Queue

from shop import app, tasks

ARGUMENTS = {
    "prioritised": {"x-max-priority": 10},
    "quorum": {"x-queue-type": "quorum"},
    "orders": {},
    "untold": {"x-max-priority": 5, "x-message-ttl": 3_600_000},
    "plain": {},
}
EARLY = ["prioritised_early", "quorum_early", "orders_early", "untold_early"]
LATE = ["prioritised_late", "quorum_late", "orders_late", "plain_late"]


def queue(name):
    kind = name.split("_")[0]
    exchange = Exchange("orders" if kind == "orders" else name, type="direct")
    return Queue(name, exchange, routing_key=name, queue_arguments=ARGUMENTS[kind])


def path(name):
    return str(FOLDER / f"{name}.notes")


@pytest.mark.parametrize("name", EARLY)
def test_before_there_is_a_master(name):
    tasks.note.apply_async((path(name), "early"), queue=queue(name))


def test_before_there_is_a_master_by_priority():
    for priority in [0] * 10 + [9] * 3:
        tasks.note.apply_async((path("priorities"), str(priority)), queue=queue("prioritised_early"), priority=priority)


def test_before_there_is_a_master_on_the_default_queue():
    tasks.note.delay(path("celery"), "early")


@pytest.mark.parametrize("name", [*EARLY, "celery"])
def test_what_was_sent_early_is_done(name):
    until(lambda: texts(path(name)) == ["early"], f"it is not done: {texts(path(name))}")


def test_what_has_priority_comes_first():
    until(lambda: len(texts(path("priorities"))) == 13, "they are not done")
    assert texts(path("priorities")) == ["9"] * 3 + ["0"] * 10


@pytest.mark.parametrize("name", [*EARLY, *LATE])
def test_each_queue_is_declared_again_by_its_producers(name):
    told = tasks.told.apply_async(queue=queue(name)).get(timeout=PATIENCE)
    assert told["delivery_info"]["routing_key"] == name
    assert told["delivery_info"]["exchange"] in ("", "orders"), told


@pytest.mark.parametrize("name", [*EARLY, *LATE])
def test_a_delay_on_each_queue(name):
    assert tasks.add.apply_async((1, 2), queue=queue(name), countdown=0.5).get(timeout=PATIENCE) == 3


def test_by_way_of_the_exchange():
    """As one publishes who knows the exchange and not the queue."""
    for name in ("orders_early", "orders_late"):
        asked = tasks.add.apply_async((1, 2), exchange="orders", routing_key=name)
        assert asked.get(timeout=PATIENCE) == 3
    assert tasks.add.apply_async((2, 2), exchange="plain_late", routing_key="plain_late").get(timeout=PATIENCE) == 4


def test_the_default_queue_again():
    assert app.conf.task_default_queue == "celery"
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
