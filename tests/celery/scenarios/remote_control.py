"""Celery's remote control, by its own command line and library: `celery status`, each `inspect` command, `control`. With
`celery: { control: work }`.

The keys of replies are held against those of a worker of Celery 5.7 (`golden.json`, beside the code that makes ours).
"""

import json
import os
import time
from pathlib import Path

import pytest
from celery.bin.celery import celery as command_line
from celery.canvas import StampingVisitor
from celery.exceptions import TaskRevokedError
from celery.utils import uuid
from click.testing import CliRunner
from conftest import PATIENCE, expect_letter, lines, until

from shop import app, tasks

QUEUE = app.conf.task_default_queue
ROOT = Path(__file__).resolve().parents[3]
GOLDEN = json.loads((ROOT / "src/celery/node/replies/golden.json").read_text())
NODE = os.environ["SHOP_NODE"]


def keys(value):
    """The paths of all keys; of a list, those of its first element."""
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in [key, *(f"{key}.{below}" for below in keys(inner))]}
    if isinstance(value, list) and value:
        return {f"[].{below}" for below in keys(value[0])}
    return set()


def celery(*arguments):
    """One command, as it is typed, with replies in JSON: what our node replied."""
    ended = CliRunner().invoke(command_line, ["-A", "shop", *arguments, "-j", "-t", "10", "-d", NODE])
    assert ended.exit_code == 0, f"{arguments}: {ended.output} {ended.exception!r}"
    # The line with the number of nodes goes to another stream, or follows.
    return json.loads(ended.output.splitlines()[0])[NODE]


def control(method, **arguments):
    """One request, and what our node replied."""
    [reply] = app.control.broadcast(method, arguments=arguments, reply=True, timeout=10, destination=[NODE])
    return reply[NODE]


@pytest.fixture(scope="class")
def running():
    """More tasks than there are processes."""
    results = [tasks.nap.delay(PATIENCE * 2) for _ in range(6)]
    until(lambda: len(celery("inspect", "active")) == 2, "two run")
    yield [result.id for result in results]
    for result in results:
        result.revoke()
    for task in celery("inspect", "active"):
        app.control.revoke(task["id"], terminate=True)
    until(lambda: not celery("inspect", "active"), "all are ended")


def test_status():
    ended = CliRunner().invoke(command_line, ["-A", "shop", "status", "-j", "-t", "10", "-d", NODE])
    assert ended.exit_code == 0 and "1 node online" in ended.output, ended.output
    assert celery("inspect", "ping") == {"ok": "pong"}


class TestWhileTasksRun:
    @pytest.mark.parametrize("method", ["stats", "active", "active_queues"])
    def test_the_keys_are_those_of_celerys_worker(self, running, method):
        ours, theirs = celery("inspect", method), GOLDEN[method]
        if method == "stats":
            # Names of tasks.
            ours.pop("total")
            theirs = {key: value for key, value in theirs.items() if key != "total"}
        assert keys(ours) == keys(theirs) != set()

    def test_each_is_shown(self, running):
        active = celery("inspect", "active")
        assert {task["id"] for task in active} <= set(running)
        task = active[0]
        assert (task["name"], task["args"], task["kwargs"]) == ("shop.tasks.nap", [PATIENCE * 2], {})
        [safe] = [safe for safe in control("active", safe=True) if safe["id"] == task["id"]]
        assert (safe["args"], safe["kwargs"]) == (f"({PATIENCE * 2},)", "{}")
        assert task["hostname"] == NODE and task["delivery_info"]["routing_key"] == QUEUE
        assert abs(time.time() - task["time_start"]) < 10 * PATIENCE
        assert task["worker_pid"] in celery("inspect", "stats")["pool"]["processes"]
        state, found = celery("inspect", "query_task", task["id"])[task["id"]]
        assert (state, found["id"], keys(found)) == ("active", task["id"], keys(task))
        for task in celery("inspect", "reserved"):
            assert keys(task) == keys(active[0])


def test_what_is_known():
    assert "shop.tasks.add" in celery("inspect", "registered")
    assert "shop.tasks.again [name=shop.tasks.again serializer=json]" in celery(
        "inspect", "registered", "name", "serializer"
    )
    assert celery("inspect", "scheduled") == []
    conf = celery("inspect", "conf")
    assert conf["task_default_queue"] == QUEUE and "guest:guest" not in json.dumps(conf)
    report = celery("inspect", "report")["ok"]
    assert "worker -> asynctask:" in report and "software -> celery:" in report and "guest:guest" not in report
    first = celery("inspect", "clock")["clock"]
    assert celery("inspect", "clock")["clock"] > first
    assert celery("inspect", "memsample").endswith("MB")
    assert [queue["name"] for queue in celery("inspect", "active_queues")] == [QUEUE]


def test_what_is_unknown_is_said_so():
    assert control("no such method") == {"error": "KeyError('no such method')"}
    assert "objgraph" in control("objgraph")["error"]
    assert control("autoscale", max=3, min=1) == {"error": "ValueError('Autoscale not enabled')"}
    assert "are no stamps" in control("revoke_by_stamped_headers", headers="order")["error"]


def test_nodes_are_chosen_by_name_and_pattern():
    def nodes(**chosen):
        return app.control.broadcast("ping", reply=True, timeout=2, **chosen) or []

    assert nodes(pattern="asynctask@*", matcher="glob") == [{NODE: {"ok": "pong"}}]
    assert nodes(pattern="celery@*", matcher="glob") == []
    assert nodes(destination=["celery@elsewhere"]) == []


def test_a_task_that_waits_is_revoked(path):
    result = tasks.note.apply_async((path, "it ran"), countdown=3)
    assert control("revoke", task_id=result.id) == {"ok": f"tasks {{'{result.id}'}} flagged as revoked"}
    assert result.id in celery("inspect", "revoked")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    assert lines(path) == []


def test_a_task_that_runs_is_ended():
    result = tasks.nap.delay(PATIENCE * 2)
    until(lambda: result.id in [task["id"] for task in celery("inspect", "active")], "it runs")
    said = control("revoke", task_id=[result.id, "none"], terminate=True, signal="SIGTERM")
    assert said == {"ok": f"terminate: {result.id}"}
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    expect_letter(result.id, "cancelled", "", QUEUE)
    assert control("terminate", task_id="none", signal="KILL") == {"ok": "terminate: tasks unknown"}


class Stamped(StampingVisitor):
    def __init__(self, order):
        self.order = order

    def on_signature(self, sig, **headers):
        return {"order": self.order}


def stamped(sig, order):
    sig.stamp(visitor=Stamped(order))
    return sig


def test_tasks_are_revoked_by_their_stamps(path):
    order = uuid()
    said = control("revoke_by_stamped_headers", headers={"order": [order]})
    assert said == {"ok": f"headers {{'order': ['{order}']}} flagged as revoked, but not terminated"}
    for of_order in (order, [uuid(), order]):
        with pytest.raises(TaskRevokedError):
            stamped(tasks.note.si(path, "it ran"), of_order).apply_async().get(timeout=PATIENCE)
    assert stamped(tasks.note.si(path, "of another"), uuid()).apply_async().get(timeout=PATIENCE) == "of another"
    assert [text for _, text in lines(path)] == ["of another"]


def test_tasks_that_run_are_ended_for_their_stamps():
    order = uuid()
    said = control("revoke_by_stamped_headers", headers=[f"order={order}"], terminate=True)
    assert said == {"ok": f"headers {{'order': '{order}'}} were not terminated"}
    order = uuid()
    result = stamped(tasks.nap.si(PATIENCE * 2), order).apply_async()
    until(lambda: result.id in [task["id"] for task in celery("inspect", "active")], "it runs")
    said = control("revoke_by_stamped_headers", headers={"order": order}, terminate=True, signal="SIGTERM")
    assert said == {"ok": f"headers defaultdict(<class 'set'>, {{'order': {{'{order}'}}}}) revoked"}
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    expect_letter(result.id, "cancelled", "", QUEUE)


def test_limits_are_set():
    said = control("time_limit", task_name="shop.tasks.nap", soft=None, hard=1)
    assert said == {"ok": "time limits set successfully"}
    result = tasks.nap.delay(PATIENCE)
    with pytest.raises(Exception, match="TimeLimitExceeded|time limit|1"):
        result.get(timeout=PATIENCE)
    expect_letter(result.id, "timeout", "", QUEUE)
    control("time_limit", task_name="shop.tasks.nap", soft=None, hard=None)
    # No limit, as in Celery: the next is not killed.
    control("time_limit", task_name="shop.tasks.nap", soft=0, hard=0)
    assert tasks.nap.delay(2).get(timeout=PATIENCE) == 2
    assert control("time_limit", task_name="none", soft=1) == {"error": "unknown task"}
    assert control("rate_limit", task_name="none", rate_limit="1/s") == {"error": "unknown task"}
    assert "is not a rate" in control("rate_limit", task_name="shop.tasks.note", rate_limit="1/day")["error"]


def test_a_rate_is_held(path):
    said = control("rate_limit", task_name="shop.tasks.note", rate_limit="2/s")
    assert said == {"ok": "new rate limit set successfully"}
    try:
        for number in range(6):
            tasks.note.delay(path, str(number))
        until(lambda: len(lines(path)) == 6, "all ran")
        moments = sorted(moment for moment, _ in lines(path))
        assert moments[-1] - moments[0] > 1.0
    finally:
        said = control("rate_limit", task_name="shop.tasks.note", rate_limit=0)
    assert said == {"ok": "rate limit disabled successfully"}


def test_pools_grow_and_shrink_and_are_renewed():
    def processes():
        return set(celery("inspect", "stats")["pool"]["processes"])

    before = until(lambda: len(processes()) == 2 and processes(), "there are two")
    assert control("pool_grow", n=1) == {"ok": "pool will grow"}
    until(lambda: len(processes()) == 3, "there are three")
    assert control("pool_shrink", n=1) == {"ok": "pool will shrink"}
    until(lambda: len(processes()) == 2, "there are two again")
    assert control("pool_restart") == {"ok": "reload started"}
    until(lambda: len(processes()) == 2 and not processes() & before, "all are others")
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_a_queue_is_left_and_taken_again(path):
    assert control("cancel_consumer", queue=QUEUE) == {"ok": f"no longer consuming from {QUEUE}"}
    assert celery("inspect", "active_queues") == []
    result = tasks.add.delay(2, 3)
    assert control("add_consumer", queue=QUEUE) == {"ok": f"add consumer {QUEUE}"}
    assert result.get(timeout=PATIENCE) == 5
    assert control("add_consumer", queue=QUEUE) == {"ok": f"add consumer {QUEUE}"}
    assert "put it there" in control("add_consumer", queue="another")["error"]


def test_a_node_that_starts_learns_what_is_revoked_and_tells_what_it_knows():
    reply = control("hello", from_node="celery@elsewhere", revoked=["told by another"])
    assert "told by another" in reply["revoked"] and reply["clock"] > 0
    # Nodes of older versions tell moments, too.
    reply = control("hello", from_node="celery@elsewhere", revoked={"told by an older one": 1.5})
    assert "told by an older one" in reply["revoked"]
    assert "told by another" in celery("inspect", "revoked")
