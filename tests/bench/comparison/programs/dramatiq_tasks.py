"""Dramatiq's actors, and what fills a queue for them."""

import os

import dramatiq
import meter
from dramatiq.brokers.rabbitmq import RabbitmqBroker

dramatiq.set_broker(RabbitmqBroker(url=os.environ["COMPARE_BROKER"]))
QUEUE = os.environ["COMPARE_QUEUE"]


@dramatiq.actor(queue_name=QUEUE)
def noop(_payload: str) -> None:
    meter.begin()
    meter.end()


@dramatiq.actor(queue_name=QUEUE)
def busy(_payload: str) -> None:
    meter.begin()
    meter.use_processor()
    meter.end()


def fill(name: str, count: int, length: int) -> None:
    actor, payload = {"noop": noop, "busy": busy}[name], meter.text(length)
    for _ in range(count):
        actor.send(payload)
