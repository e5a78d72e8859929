"""Celery's monitors: the stream of events, and Flower with its pages, which ask the node for everything that it shows."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from conftest import FOLDER, PATIENCE, until

from shop import app, tasks

NODE = os.environ["SHOP_NODE"]


class Events:
    """All events that come while it is open."""

    def __enter__(self):
        self.seen = []
        self.connection = app.connection()
        self.receiver = app.events.Receiver(self.connection, handlers={"*": self.seen.append})
        self.thread = threading.Thread(target=self.capture, daemon=True)
        self.thread.start()
        return self

    def capture(self):
        # The wake-up asks all nodes for a heartbeat.
        self.receiver.capture(limit=None, timeout=None, wakeup=True)

    def __exit__(self, *_):
        self.receiver.should_stop = True
        self.thread.join(PATIENCE)

    def of(self, kind, uuid=None):
        return [event for event in list(self.seen) if event["type"] == kind and uuid in (None, event.get("uuid"))]


def test_events_of_tasks_are_told_while_somebody_wants_them():
    with Events() as events:
        beat = until(lambda: events.of("worker-heartbeat"), "it beats")[0]
        assert beat["hostname"] == NODE and beat["sw_ident"] == "asynctask" and "utcoffset" not in beat
        assert {"active", "processed", "loadavg", "freq", "clock", "pid"} <= set(beat)
        app.control.disable_events()
        tasks.add.delay(1, 1).get(timeout=PATIENCE)
        until(lambda: len(events.of("worker-heartbeat")) > 2, "it beats on")
        assert not [event for event in events.seen if event["type"] == "task-succeeded"]

        said = app.control.broadcast("enable_events", reply=True, timeout=10, destination=[NODE])
        assert said == [{NODE: {"ok": "task events enabled"}}]
        good, bad = tasks.add.delay(20, 22), tasks.fail.delay("as it should")
        until(lambda: events.of("task-succeeded", good.id) and events.of("task-failed", bad.id), "both have ended")
        [received] = events.of("task-received", good.id)
        assert (received["name"], received["args"], received["kwargs"]) == ("shop.tasks.add", "(20, 22)", "{}")
        assert events.of("task-started", good.id)
        [done] = events.of("task-succeeded", good.id)
        assert done["result"] == "42" and done["runtime"] >= 0 and done["clock"] > received["clock"]
        [failed] = events.of("task-failed", bad.id)
        assert "as it should" in failed["exception"] and "Traceback" in failed["traceback"]


@pytest.fixture(scope="module")
def flower():
    """Flower, and a function that gets its pages."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "celery", "-A", "shop", "flower", f"--port={port}", "--address=127.0.0.1"]
    environment = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    with open(FOLDER / "flower.log", "wb") as log:
        program = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    try:
        until(lambda: get("/healthcheck")[0] == 200, "Flower runs")
        yield get
    finally:
        program.terminate()
        program.wait(PATIENCE)


def test_flower_shows_the_node_and_its_tasks(flower):
    def workers():
        return json.loads(flower("/workers?json=1")[1])["data"]

    until(lambda: any(row["hostname"] == NODE and row["status"] for row in workers()), "the node is online")
    # It asks for events when it has heard of the node.
    app.control.enable_events()
    good, bad = tasks.add.delay(1, 2), tasks.fail.delay("flower")

    def shown():
        status, text = flower("/api/tasks")
        found = json.loads(text) if status == 200 else {}
        ended = ("SUCCESS", "FAILURE")
        return found if {found.get(task.id, {}).get("state") for task in (good, bad)} == set(ended) else None

    found = until(shown, "both tasks have ended")
    assert (found[good.id]["name"], found[good.id]["result"]) == ("shop.tasks.add", "3")
    assert "flower" in found[bad.id]["exception"] and found[bad.id]["worker"] == NODE
    status, text = flower("/api/workers?refresh=1")
    assert status == 200 and {"stats", "active_queues", "registered", "conf"} <= set(json.loads(text)[NODE])
    until(lambda: flower(f"/worker/{NODE}")[0] == 200, "the page of the node")
    assert NODE in flower(f"/worker/{NODE}")[1]
    status, text = flower("/metrics")
    assert status == 200 and f'flower_worker_online{{worker="{NODE}"}} 1.0' in text, text
    assert f'type="task-succeeded",worker="{NODE}"' in text
