"""A Celery application as people have them. Nothing in it knows of asynctask: what differs between two runs of it is in the
environment, as in any deployment.

    SHOP_BROKER    address of the broker
    SHOP_RESULTS   result backend; none: results are not kept
    SHOP_QUEUE     default queue (celery)
    SHOP_ACCEPT    content types that are accepted, by commas (json)
    SHOP_SETTINGS  more settings, as an object in JSON
"""

import json
import os

from celery import Celery

app = Celery(
    "shop", broker=os.environ["SHOP_BROKER"], backend=os.environ.get("SHOP_RESULTS") or None, include=["shop.tasks"]
)
app.conf.update(
    task_default_queue=os.environ.get("SHOP_QUEUE", "celery"),
    accept_content=os.environ.get("SHOP_ACCEPT", "json").split(","),
    result_extended=True,
    result_chord_retry_interval=0.2,
    broker_connection_retry_on_startup=True,
)
app.conf.update(json.loads(os.environ.get("SHOP_SETTINGS", "{}")))
