"""Huey's tasks on its own SQLite storage, and what fills a queue with them."""

import os
from typing import Any

import meter
from huey import Huey
from huey.storage import SqliteStorage


class DurableAsOurs(SqliteStorage):
    """Huey offers a sync of the disk with each commit (FULL, its default) or none at all (OFF). Ours claims and
    settles at NORMAL, so this does, too: it is faster than the default."""

    def _create_connection(self) -> Any:
        connection = super()._create_connection()
        connection.execute("pragma synchronous = normal")
        return connection


huey = Huey("comparison", storage_class=DurableAsOurs, filename=os.environ["COMPARE_FILE"], results=False)


@huey.task()
def noop(_payload: str) -> None:
    meter.begin()
    meter.end()


def fill(name: str, count: int, length: int) -> None:
    task, payload = {"noop": noop}[name], meter.text(length)
    # Filling is not what is measured.
    huey.storage.conn.execute("pragma synchronous = off")
    for _ in range(count):
        task(payload)
