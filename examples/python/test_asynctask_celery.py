"""Tests of the package, each with a worker process of its own and the real celery; the test is the master.

They need celery: without it they are skipped, and `tests/run` runs them in the environment that it builds.
"""

import base64
import importlib.util
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import textwrap
import unittest
import uuid
import zlib
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).parent
HAS_CELERY = importlib.util.find_spec("celery") is not None
SHOP = """
import os, signal, time
from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celery("shop", broker="memory://", backend="file://" + os.environ["RESULTS"])
app.conf.update(task_acks_late=True, broker_password_key="secret", task_time_limit=60)


def told(*words):
    print("told", *words, flush=True)
"""


class Master:
    """Plays the master against a worker of an application that stands in a folder of its own."""

    def __init__(self, code: str, app: str = "shop", module: str = "shop.py", **environment: str) -> None:
        folder = tempfile.TemporaryDirectory()
        unittest.addModuleCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.results = self.folder / "results"
        self.results.mkdir()
        (self.folder / module).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / module).write_text(SHOP + textwrap.dedent(code))
        ours, theirs = socket.socketpair()
        # Long, as it is for tests that hang alone: some start with thousands of tasks.
        ours.settimeout(120)
        number = theirs.fileno()
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "asynctask_celery", "--app", app],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(HERE),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "C_FORCE_ROOT": "1",
                    "RESULTS": str(self.results),
                    "ASYNCTASK_FD": str(number),
                    "ASYNCTASK_SLOT": "celery[2]",
                    "ASYNCTASK_CELERY_NODE": "asynctask@here",
                    **environment,
                },
                pass_fds=[number],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        # A test that fails may leave a worker that is busy for good.
        unittest.addModuleCleanup(self.end)
        theirs.close()
        self.stream = ours
        self.frames = ours.makefile("rb")
        self.ready = self.heard().get("ready", {})

    def say(self, **frame: Any) -> None:
        self.stream.sendall(json.dumps(frame).encode() + b"\n")

    def heard(self) -> Dict[str, Any]:
        line = self.frames.readline()
        frame: Dict[str, Any] = json.loads(line) if line else {}
        return frame

    def task(self, frame: Dict[str, Any]) -> Dict[str, Any]:
        """Gives a task and takes what is said of it first."""
        self.say(task=frame)
        return self.heard()

    def run(self, name: str, *args: Any, **options: Any) -> Dict[str, Any]:
        return self.task(message(name, *args, **options))

    def result(self, frame: Dict[str, Any]) -> Dict[str, Any]:
        """What the result backend has of a task; empty if it has nothing."""
        file = self.results / f"celery-task-meta-{frame['headers']['id']}"
        stored: Dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return stored

    def halt(self) -> str:
        """Ends it, and gives what it printed."""
        self.say(halt={"reason": "stop"})
        assert self.heard() == {"bye": {}}
        self.process.wait(30)
        assert self.process.returncode == 0, (self.process.returncode, self.printed())
        return self.printed()

    def printed(self) -> str:
        """What it has printed, when it has ended."""
        self.process.wait(30)
        return (self.folder / "output").read_text()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait(30)
        self.frames.close()
        self.stream.close()

    def words(self) -> List[str]:
        """What its code told with `told`, until its end."""
        return [line[5:] for line in self.halt().splitlines() if line.startswith("told ")]


def message(
    name: str,
    *args: Any,
    body: Optional[bytes] = None,
    headers: Optional[Dict[str, Any]] = None,
    properties: Optional[Dict[str, Any]] = None,
    embed: Optional[Dict[str, Any]] = None,
    **kwargs: Any,
) -> Dict[str, Any]:
    """A task frame with a message as Celery 5.7 sends it."""
    task_id = str(uuid.uuid4())
    rest = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **(embed or {})}
    body = json.dumps([args, kwargs, rest]).encode() if body is None else body
    sent: Dict[str, Any] = {"lang": "py", "task": name, "id": task_id, "shadow": None, "eta": None, "expires": None}
    sent.update(group=None, group_index=None, retries=0, timelimit=[None, None], root_id=task_id, parent_id=None)
    sent.update(argsrepr=repr(args), kwargsrepr=repr(kwargs), origin="gen1@vm", ignore_result=False)
    sent.update(replaced_task_nesting=0, stamped_headers=None, stamps={})
    sent.update(headers or {})
    of_message: Dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "correlation_id": task_id,
    }
    of_message.update({"reply_to": "answers", "priority": 3, "redelivered": False, **(properties or {})})
    frame = {"id": task_id, "queue": "celery", "headers": sent, "properties": of_message}
    return {**frame, "payload_base64": base64.b64encode(body).decode()}


def signature(name: str, *args: Any) -> Dict[str, Any]:
    options = {"task_id": str(uuid.uuid4()), "queue": "celery"}
    return {"task": name, "args": args, "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}


@unittest.skipUnless(HAS_CELERY, "celery is not installed here")
class Celery(unittest.TestCase):
    def done(self, frame: Dict[str, Any]) -> Dict[str, Any]:
        return {"done": {"id": frame["id"]}}


class Ready(Celery):
    def test_what_the_master_is_told(self) -> None:
        code = """
        @app.task(time_limit=5, soft_time_limit=4, rate_limit=3, max_retries=None)
        def add(a, b): return a + b
        @app.task
        def a_plain_one(): pass
        """
        master = Master(code)
        self.assertEqual((master.ready["name"], master.ready["wants"]), ("shop", ["properties", "celery"]))
        tasks = master.ready["celery"]["tasks"]
        own = {"time_limit": "5", "soft_time_limit": "4", "rate_limit": "3", "max_retries": ""}
        limits = {"time_limit": 5.0, "soft_time_limit": 4.0, "rate_limit": "3/s"}
        self.assertEqual(tasks["shop.add"], {**limits, "attributes": own})
        self.assertEqual(tasks["celery.chord_unlock"]["time_limit"], 60.0)
        told = master.ready["celery"]
        self.assertEqual((told["time_limit"], told["soft_time_limit"]), (60.0, None))
        conf = master.ready["celery"]["conf"]
        self.assertEqual((conf["task_acks_late"], conf["broker_password_key"]), (True, "********"))
        of_all = master.ready["celery"]["attributes"]
        self.assertEqual((of_all["acks_late"], of_all["max_retries"], of_all["serializer"]), ("True", "3", "json"))
        self.assertNotIn("attributes", tasks["shop.a_plain_one"])
        self.assertFalse({"backend", "app", "request"} & set(of_all), "properties, which may open connections")
        report = master.ready["celery"]["report"]
        self.assertIn("software -> celery:", report)
        self.assertIn("broker_password_key: '********'", report)
        master.halt()

    def test_more_tasks_than_a_frame_has_room_for(self) -> None:
        code = """
        def nothing(): pass
        for number in range(20_000):
            app.task(name=f"shop.{number:0200}")(nothing)
        """
        master = Master(code)
        self.assertTrue(10_000 < len(master.ready["celery"]["tasks"]) < 20_000)
        self.assertIn("done", master.run(f"shop.{19_999:0200}"))
        self.assertIn("tasks alone of the 20009 that are registered", master.halt())

    def test_the_names_of_an_application(self) -> None:
        for app, module in (
            ("shop", "shop.py"),
            ("shop:app", "shop.py"),
            ("shop.celery", "shop/celery.py"),
            ("shop", "shop/celery.py"),
            ("shop.tasks:app", "shop/tasks.py"),
        ):
            master = Master("", app, module)
            self.assertEqual(master.ready.get("name"), "shop", app)
            master.halt()

    def test_what_is_no_application_is_refused(self) -> None:
        for app, text in (("no_such", "no_such"), ("shop:told", "is no application"), ("shop:absent", "absent")):
            master = Master("", app)
            output = master.printed()
            self.assertEqual((master.ready, master.process.returncode), ({}, 64), output)
            self.assertIn("error: ", output)
            self.assertIn(text, output)

    def test_a_rate_that_is_none_is_said_with_its_task(self) -> None:
        for limit in ("'10/day'", "'often'"):
            master = Master(f"@app.task(rate_limit={limit})\ndef add(a, b): return a + b\n")
            self.assertEqual((master.ready, master.process.wait(30)), ({}, 64))
            said = f'error: the rate_limit {limit} of the task "shop.add" is no rate: 10, "10/s", "10/m" or "10/h"'
            self.assertIn(said, master.printed())

    def test_root_is_refused_with_pickle_alone_and_nothing_is_said_without(self) -> None:
        if os.getuid() != 0:
            return
        self.assertNotIn("superuser", Master("", C_FORCE_ROOT="").halt())
        refused = Master("app.conf.accept_content = ['pickle']", C_FORCE_ROOT="")
        self.assertIn("error: Celery refuses to work for this application: ", refused.printed())

    def test_the_signals_of_a_start_and_an_end(self) -> None:
        code = """
        def tell(name):
            def receiver(sender=None, **kwargs):
                told(name, sender if isinstance(sender, str) else type(sender).__name__)
            getattr(signals, name).connect(receiver, weak=False)
        for name in ("import_modules", "celeryd_init", "worker_init", "celeryd_after_setup", "worker_process_init",
                     "worker_ready", "worker_process_shutdown", "worker_shutdown"):
            tell(name)

        @app.task
        def who():
            from billiard.process import current_process
            told(current_process().name, current_process().index)
        """
        master = Master(code)
        master.run("shop.who")
        expected = ["import_modules Celery", "celeryd_init asynctask@here", "worker_init Worker"]
        expected += ["celeryd_after_setup asynctask@here", "worker_process_init asynctask@here"]
        expected += ["worker_ready Consumer", "ForkPoolWorker-2 1"]
        expected += ["worker_process_shutdown asynctask@here", "worker_shutdown Worker"]
        self.assertEqual(master.words(), expected)

    def test_the_log(self) -> None:
        code = """
        from celery.utils.log import get_task_logger
        logger = get_task_logger(__name__)

        @app.task
        def say():
            logger.info("of the task")
            logger.debug("not said")
            print("printed")
        """
        master = Master(code, ASYNCTASK_LOG_LEVEL="INFO")
        frame = message("shop.say")
        master.task(frame)
        output = master.halt()
        self.assertIn(f"INFO:shop:shop.say[{frame['id']}]: of the task\nprinted\n", output)
        self.assertNotIn("not said", output)
        self.assertNotIn("succeeded", output)
        own = "@signals.setup_logging.connect\ndef own(**kwargs): told('set up')\n"
        self.assertEqual(Master(own).words(), ["set up"])


class Outcomes(Celery):
    def test_success_and_its_result(self) -> None:
        master = Master("@app.task\ndef add(a, b): return a + b\n")
        frame = message("shop.add", 1, b=2)
        self.assertEqual(master.task(frame), self.done(frame))
        self.assertEqual((master.result(frame)["status"], master.result(frame)["result"]), ("SUCCESS", 3))
        ignored = message("shop.add", 1, 2, headers={"ignore_result": True})
        self.assertEqual(master.task(ignored), self.done(ignored))
        self.assertEqual(master.result(ignored), {})
        master.say(control={"method": "enable_events", "arguments": {}})
        body = master.task(frame)["done"]
        self.assertEqual((body["result"], body["runtime"] < 10), ("3", True))
        master.say(control={"method": "disable_events", "arguments": {}})
        self.assertEqual(master.task(frame), self.done(frame))
        master.halt()

    def test_a_failure_is_a_dead_letter_or_dropped(self) -> None:
        code = "@app.task\ndef fail(): raise ValueError('no')\n"
        code += "@app.task(acks_on_failure_or_timeout=False)\ndef keep(): raise ValueError('no')\n"
        master = Master(code)
        frame = message("shop.fail")
        body = master.task(frame)["failed"]
        self.assertEqual((body["id"], body["error"]), (frame["id"], "ValueError('no')"))
        self.assertIn("ValueError: no", body["detail"])
        self.assertEqual(master.result(frame)["result"]["exc_type"], "ValueError")
        master.halt()
        master = Master(code, ASYNCTASK_CELERY_FAILURES="drop")
        self.assertEqual(master.task(frame), self.done(frame))
        self.assertEqual(master.result(frame)["status"], "FAILURE")
        # Celery rejects it: it is for the dead letters.
        self.assertIn("failed", master.run("shop.keep"))
        master.halt()

    def test_a_result_that_cannot_be_stored_is_a_failure_that_names_the_backend(self) -> None:
        code = """
        from celery.backends.filesystem import FilesystemBackend
        from celery.backends.base import Backend
        def odd(self, key, value):
            if b"SUCCESS" in (value if isinstance(value, bytes) else value.encode()) or os.environ["HOW"] == "all":
                raise OSError("full")
        FilesystemBackend.set = odd
        FilesystemBackend._do_directory_test = lambda *args: None
        app.conf.result_backend += ";redis://:secret@cache"
        @app.task
        def add(a, b): return a + b
        @app.task
        def fail(): raise ValueError("no")
        """
        for how in ("success", "all"):
            master = Master(code, HOW=how)
            failed = master.run("shop.add", 1, 2)["failed"]
            self.assertIn("the task succeeded, but its result cannot be stored in file://", failed["error"])
            self.assertIn("OSError('full')", failed["error"])
            self.assertNotIn("secret", failed["error"])
            self.assertNotIn("cannot be stored", master.run("shop.fail")["failed"]["error"])
            master.halt()

    def test_retry_ignore_and_reject(self) -> None:
        code = """
        @app.task(bind=True)
        def again(self): raise self.retry(countdown=1, exc=ValueError("later"))
        @app.task
        def ignore(): raise Ignore()
        @app.task
        def reject(requeue): raise Reject("odd", requeue=requeue)
        """
        master = Master(code)
        again = message("shop.again")
        self.assertEqual(master.task(again), self.done(again))
        self.assertEqual(master.result(again)["status"], "RETRY")
        ignore = message("shop.ignore")
        self.assertEqual(master.task(ignore), self.done(ignore))
        back = message("shop.reject", True)
        self.assertEqual(master.task(back), {"snooze": {"id": back["id"], "delay_ms": 0}})
        self.assertEqual(master.run("shop.reject", False)["failed"]["error"], "Rejected: odd")
        early = message("shop.reject", True)
        master.say(control={"method": "enable_events", "arguments": {}})
        retried = master.task(again)["done"]["retried"]
        self.assertEqual(retried["exception"], "ValueError('later')")
        self.assertEqual(master.task(early), {"snooze": {"id": early["id"], "delay_ms": 0}})
        master.halt()

    def test_an_early_acknowledgement(self) -> None:
        code = """
        @app.task(acks_late=False)
        def early(what):
            if what == "reject":
                raise Reject("odd", requeue=True)
            if what:
                raise ValueError(what)
        """
        master = Master(code)
        for what, end in (("", "done"), ("reject", "done"), ("no", "failed")):
            frame = message("shop.early", what)
            self.assertEqual(master.task(frame), {"accept": {"id": frame["id"]}})
            self.assertIn(end, master.heard())
        master.halt()

    def test_an_exit_is_a_death(self) -> None:
        for how in ("raise SystemExit(0)", "os._exit(3)"):
            master = Master(f"@app.task\ndef leave(): {how}\n")
            self.assertEqual(master.run("shop.leave"), {})

    def test_an_unregistered_task(self) -> None:
        code = """
        @app.task
        def clean_up(): pass
        @signals.task_unknown.connect
        def unknown(name=None, **kwargs): told(name)
        """
        master = Master(code)
        frame = message("shop.clean_ap")
        body = master.task(frame)["failed"]
        self.assertIn('"shop.clean_ap" is not registered in shop; near names: shop.clean_up', body["error"])
        self.assertEqual(master.result(frame)["result"]["exc_type"], "NotRegistered")
        self.assertEqual(master.words(), ["shop.clean_ap"])


class Messages(Celery):
    def test_what_a_task_reads_of_its_request(self) -> None:
        code = """
        @app.task(bind=True)
        def show(self, *args, **kwargs):
            r = self.request
            told(args, kwargs, r.id, r.retries, r.hostname, r.reply_to, r.correlation_id, r.is_eager, r.called_directly,
                 sorted(r.delivery_info.items()), r.headers, r.timelimit)
        """
        master = Master(code)
        headers = {"retries": 2, "timelimit": [9, 8], "own": "x"}
        frame = message("shop.show", 1, headers=headers, properties={"redelivered": True}, a="b")
        self.assertIn("done", master.task(frame))
        info = [("exchange", ""), ("priority", 3), ("redelivered", True), ("routing_key", "celery")]
        task_id = frame["id"]
        expected = (
            f"(1,) {{'a': 'b'}} {task_id} 2 asynctask@here answers {task_id} False False {info} {{'own': 'x'}} [9, 8]"
        )
        self.assertEqual(master.words(), [expected])

    def test_protocol_1_and_what_is_between(self) -> None:
        master = Master(
            "@app.task(bind=True)\ndef add(self, a, b): told(a + b, self.request.id, self.request.retries)\n"
        )
        body = {
            "task": "shop.add",
            "id": "one",
            "args": [1],
            "kwargs": {"b": 2},
            "retries": 1,
            "eta": None,
            "utc": True,
        }
        first = message("", body=json.dumps(body).encode())
        first["headers"] = {}
        self.assertEqual(master.task(first), self.done(first))
        hybrid = message("shop.add", body=json.dumps({**body, "id": "two"}).encode(), headers={"id": "two"})
        self.assertEqual(master.task(hybrid), self.done(hybrid))
        self.assertEqual(master.words(), ["3 one 1", "3 two 0"])

    def test_typed_values_compression_and_what_is_accepted(self) -> None:
        master = Master("@app.task\ndef show(value): told(repr(value))\n")
        moment = {"__type__": "datetime", "__value__": "2026-11-30T12:00:00+00:00"}
        self.assertIn("done", master.run("shop.show", moment))
        spelled = json.dumps([[moment], {}, {}]).replace("__type__", "\\u005f_type__").encode()
        self.assertIn("done", master.run("shop.show", body=spelled))
        compressed = zlib.compress(json.dumps([["ü"], {}, None]).encode())
        self.assertIn("done", master.run("shop.show", body=compressed, headers={"compression": "application/x-gzip"}))
        gzip = {"compression": "application/x-gzip"}
        self.assertIn("breaks off", master.run("shop.show", body=compressed[:-3], headers=gzip)["malformed"]["error"])
        bomb = zlib.compress(b" " * (257 << 20))
        self.assertIn("256 MiB", master.run("shop.show", body=bomb, headers=gzip)["malformed"]["error"])
        pickled = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        body = pickle.dumps((({1, 2},), {}, {}))
        refused = master.run("shop.show", body=body, properties=pickled)["malformed"]
        self.assertIn("ContentDisallowed", refused["error"])
        told = master.words()
        self.assertTrue(told[0].startswith("datetime.datetime(2026, 11, 30, 12, 0") and told[1] == told[0], told)
        self.assertEqual(told[2:], ["'ü'"])
        master = Master("app.conf.accept_content = ['pickle']\n@app.task\ndef show(value): told(repr(value))\n")
        self.assertIn("done", master.run("shop.show", body=body, properties=pickled))
        self.assertIn("malformed", master.run("shop.show", 1))
        self.assertEqual(master.words(), ["{1, 2}"])

    def test_what_is_no_task_is_malformed_and_the_worker_goes_on(self) -> None:
        code = """
        @app.task
        def show(*args, **kwargs): pass
        @signals.task_rejected.connect
        def rejected(exc=None, **kwargs): told(type(exc).__name__)
        """
        master = Master(code)
        name = "shop.show"
        odd_values: List[Any] = [None, 5, [], {}]
        wrong: List[Dict[str, Any]] = [
            message(name, body=body)
            for body in (
                b"",
                b"{",
                b"\xff",
                b"null",
                b"[]",
                b"[1,2,3]",
                b"[[],[],{}]",
                b"[{},{},{}]",
                b"[[],{},[1]]",
                b'"args"',
            )
        ]
        wrong += [message(name, body=b"[" * 10_000 + b"]" * 10_000)]
        wrong += [message(name, properties={"content_type": kind}) for kind in (None, "x/y", 5, ["json"])]
        wrong += [message(name, headers={"compression": how}) for how in ("application/x-gzip", "x", 5)]
        wrong += [message(name, headers={"task": odd}) for odd in odd_values]
        wrong += [message(name, headers={"id": odd}) for odd in odd_values]
        wrong += [message(name, body=b'[[{"__type__":"datetime","__value__":"never"}],{},{}]')]
        for frame in wrong:
            frame["id"] = "a"
            body = master.task(frame).get("malformed", {})
            self.assertTrue(body.get("error") and "\n" not in body["error"], frame)
        self.assertEqual(master.result(wrong[1])["result"]["exc_type"], "DecodeError")
        without = message(name)
        del without["payload_base64"]
        self.assertIn("malformed", master.task(without))
        other = {**without, "payload": {"task": name}}
        self.assertEqual(master.task(other), {"snooze": {"id": other["id"], "delay_ms": 1000}}, "no queue of Celery's")
        odd = message(name, headers={"timelimit": {}}, embed={"callbacks": 5, "chain": "x", "chord": 7})
        self.assertIn("failed", master.task(odd))
        good = message(name, headers={"timelimit": ["x", "y"], "stamps": 5, "retries": "many"})
        self.assertEqual(master.task(good), self.done(good))
        self.assertEqual(len(master.words()), len(wrong) + 1)

    def test_receivers_of_task_received(self) -> None:
        code = """
        @app.task
        def show(): pass
        @signals.task_received.connect
        def received(sender=None, request=None, **kwargs):
            told(sender.hostname, request.name, request.id, request.stamps, request.delivery_info["priority"], request.eta)
        """
        master = Master(code)
        headers = {"stamped_headers": ["a"], "stamps": {"a": 1}, "eta": "2026-11-30T12:00:00"}
        frame = message("shop.show", headers=headers)
        self.assertEqual(master.task(frame), self.done(frame))
        self.assertIn("malformed", master.run("shop.show", headers={"eta": "never"}))
        expected = f"asynctask@here shop.show {frame['id']} {{'a': 1}} 3 2026-11-30 12:00:00+00:00"
        self.assertEqual(master.words(), [expected])

    def test_a_request_class_of_the_application_hears_of_everything(self) -> None:
        code = """
        from celery.worker.request import Request
        class Own(Request):
            def on_accepted(self, pid, time_accepted):
                told("accepted")
            def on_success(self, result, **kwargs):
                told("success", result[1])
            def on_failure(self, einfo, send_failed_event=True, return_ok=False):
                told("failure", einfo.exception)
        class Base(Task):
            Request = Own
        @app.task(base=Base)
        def half(n):
            return 1 // n
        """
        master = Master(code)
        self.assertIn("done", master.run("shop.half", 1))
        self.assertIn("failed", master.run("shop.half", 0))
        told = master.words()
        self.assertEqual((told[0], told[1], told[2]), ("accepted", "success 1", "accepted"))
        self.assertTrue(told[3].startswith("failure"), told)


class Limits(Celery):
    def test_a_soft_limit(self) -> None:
        code = """
        @app.task
        def sleep(seconds):
            try:
                time.sleep(seconds)
            except SoftTimeLimitExceeded:
                told("soft")
                raise
        @app.task(soft_time_limit=0.1)
        def own():
            time.sleep(30)
        @app.task
        def spin():
            while True:
                pass
        """
        master = Master(code)
        soft = {"timelimit": [None, 0.1]}
        self.assertEqual(master.run("shop.sleep", 30, headers=soft)["failed"]["error"], "SoftTimeLimitExceeded()")
        self.assertIn("SoftTimeLimitExceeded", master.run("shop.own")["failed"]["error"])
        self.assertIn("SoftTimeLimitExceeded", master.run("shop.spin", headers=soft)["failed"]["error"])
        # It is over with its task.
        self.assertIn("done", master.run("shop.sleep", 0.05, headers={"timelimit": [None, 0.1]}))
        self.assertIn("done", master.run("shop.sleep", 0.2))
        arguments = {"task_name": "shop.sleep", "soft": 0.1, "hard": 9}
        master.say(control={"method": "time_limit", "arguments": arguments})
        self.assertIn("failed", master.run("shop.sleep", 30))
        self.assertEqual(master.words(), ["soft", "soft"])

    def test_a_limit_at_the_end_of_a_task_hits_nothing_else(self) -> None:
        master = Master("@app.task\ndef sleep(seconds): time.sleep(seconds)\n")
        ends = {"done": 0, "failed": 0}
        for number in range(200):
            frame = message("shop.sleep", 0.002, headers={"timelimit": [None, 0.0015 + number * 5e-6]})
            end = master.task(frame)
            kind = next(iter(end))
            self.assertEqual(end[kind]["id"], frame["id"])
            ends[kind] += 1
            if kind == "failed":
                self.assertIn("SoftTimeLimitExceeded", end["failed"]["error"])
        self.assertGreater(ends["failed"], 0, ends)
        self.assertIn("done", master.run("shop.sleep", 0.05))
        master.halt()


class Lost(Celery):
    def lost(self, frame: Dict[str, Any], reason: str, **more: Any) -> Dict[str, Any]:
        return {**frame, "reason": reason, "error": "killed by SIGSEGV", **more}

    def told(self, master: Master, lost: Dict[str, Any], is_stored: bool = True) -> None:
        master.say(lost=lost)
        self.assertEqual(master.heard(), {"reported": {"id": lost["id"], "stored": is_stored}})

    def test_each_reason_has_its_result(self) -> None:
        master = Master("@app.task\ndef add(a, b): return a + b\n")
        expected: Dict[str, Any] = {
            "crash": ("FAILURE", "WorkerLostError", "killed by SIGSEGV"),
            "deliveries": ("FAILURE", "WorkerLostError", "killed by SIGSEGV"),
            "timeout": ("FAILURE", "TimeLimitExceeded", 1.5),
            "expired": ("REVOKED", "TaskRevokedError", "expired"),
            "cancelled": ("REVOKED", "TaskRevokedError", "killed by SIGSEGV"),
            "malformed": ("FAILURE", "DecodeError", "killed by SIGSEGV"),
        }
        for name in ("shop.add", "shop.unknown"):
            for reason, (status, kind, text) in expected.items():
                frame = message(name, 1, 2)
                self.told(master, self.lost(frame, reason, time_limit=1.5 if reason == "timeout" else None))
                stored = master.result(frame)
                limit = "killed by SIGSEGV" if reason == "timeout" and name == "shop.unknown" else text
                self.assertEqual((stored["status"], stored["result"]["exc_type"]), (status, kind), (name, reason))
                self.assertIn(stored["result"]["exc_message"], ([text], [limit]), (name, reason))
        master.halt()

    def test_a_message_that_cannot_be_read(self) -> None:
        master = Master("")
        for frame in (message("shop.add", body=b"{"), message("shop.add", body=b"[" * 10_000)):
            self.told(master, self.lost(frame, "crash"))
            self.assertEqual(master.result(frame)["result"]["exc_type"], "WorkerLostError")
        bare = message("shop.add")
        del bare["payload_base64"]
        self.told(master, self.lost(bare, "crash"))
        self.assertEqual(master.result(bare)["result"]["exc_type"], "WorkerLostError")
        self.told(master, {"id": "x", "reason": 5, "headers": {"id": {}, "group": 7}, "properties": {"reply_to": 5}})
        master.halt()

    def test_the_rest_of_a_chain_and_errbacks_go_on(self) -> None:
        code = """
        @app.task
        def add(a, b): return a + b
        @app.task
        def worry(request, error, traceback): told(request.id, repr(error))
        @signals.task_failure.connect
        def failed(sender=None, task_id=None, exception=None, **kwargs): told(sender.name, task_id, repr(exception))
        """
        master = Master(code)
        following = signature("shop.add", 5)
        frame = message("shop.add", 1, 2, embed={"errbacks": [signature("shop.worry")], "chain": [following]})
        self.told(master, self.lost(frame, "crash"))
        rest = {"headers": {"id": following["options"]["task_id"]}}
        self.assertEqual(master.result(rest)["result"]["exc_type"], "WorkerLostError")
        error = "WorkerLostError('killed by SIGSEGV')"
        self.assertEqual(master.words(), [f"{frame['id']} {error}", f"shop.add {frame['id']} {error}"])

    def test_a_result_backend_that_fails_or_hangs_is_no_reason_to_say_nothing(self) -> None:
        code = """
        import asynctask_celery.stored
        asynctask_celery.stored.SECONDS = 0.2
        from celery.backends.filesystem import FilesystemBackend
        def odd(*args, **kwargs):
            raise OSError("full")
        def slow(*args, **kwargs):
            while True:
                try:
                    time.sleep(30)
                except Exception:
                    pass
        FilesystemBackend.store_result = {"odd": odd, "slow": slow}[os.environ["HOW"]]
        """
        for how, text in (("odd", "full"), ("slow", "no answer in 0.2 s")):
            master = Master(code, HOW=how)
            frame = message("shop.add")
            self.told(master, self.lost(frame, "crash"), is_stored=False)
            self.assertIn("failed", master.task(frame))
            output = master.halt()
            self.assertIn(f"No result was stored for {frame['id']}: ", output)
            self.assertIn(text, output)


class Revoked(Celery):
    def revoke(self, master: Master, ids: List[str]) -> None:
        master.say(control={"method": "revoke", "arguments": {"task_id": ids}, "ticket": 7})

    def status(self, master: Master, task_id: str) -> Any:
        return master.result({"headers": {"id": task_id}}).get("status")

    def test_what_nobody_has_begun_is_revoked(self) -> None:
        master = Master("@app.task\ndef add(a, b): return a + b\napp.backend.store_result('b', {}, 'STARTED')\n")
        self.revoke(master, ["a", "b"])
        self.assertEqual(master.heard(), {"controlled": {"ticket": 7}})
        stored = master.result({"headers": {"id": "a"}})
        self.assertEqual((stored["status"], stored["result"]["exc_type"]), ("REVOKED", "TaskRevokedError"))
        self.assertEqual(self.status(master, "b"), "STARTED")
        master.halt()

    def test_a_backend_that_hangs_delays_no_task_and_one_that_fails_is_said(self) -> None:
        code = """
        from celery.backends.filesystem import FilesystemBackend
        def odd(*args, **kwargs): raise OSError("full")
        def slow(*args, **kwargs): time.sleep(600)
        FilesystemBackend.get_state = {"odd": odd, "slow": slow}[os.environ["HOW"]]
        @app.task
        def add(a, b): return a + b
        """
        master = Master(code, HOW="odd")
        self.revoke(master, ["a", "b"])
        self.assertEqual(master.heard(), {"controlled": {"ticket": 7}})
        self.assertIn("No result was stored for 2 revoked tasks: OSError", master.halt())
        master = Master(code, HOW="slow")
        self.revoke(master, ["a"])
        frame = message("shop.add", 1, 2)
        self.assertEqual(master.task(frame), self.done(frame))
        self.revoke(master, [str(number) for number in range(10_000)])
        self.assertIn("No result was stored for 10000 revoked tasks: too many wait", master.halt())


class Beat(Celery):
    def printed(self, code: str, app: str = "shop") -> str:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "shop.py").write_text(SHOP + textwrap.dedent(code))
            command = [sys.executable, "-W", "ignore", "-m", "asynctask_celery", "--app", app, "--import-beat"]
            environment = {**os.environ, "PYTHONPATH": str(HERE), "RESULTS": folder, "PYTHONDONTWRITEBYTECODE": "1"}
            return subprocess.run(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
            ).stdout.decode()

    def test_a_schedule(self) -> None:
        code = """
        from datetime import timedelta
        from celery.schedules import crontab
        app.conf.update(
            timezone="Europe/Berlin",
            result_expires=None,
            task_routes={"shop.routed": {"queue": "other"}},
            beat_schedule={
                "cron": {"task": "shop.clean", "schedule": crontab(minute="*/15", hour="22-2", day_of_week="mon-fri")},
                "day": {"task": "shop.routed", "schedule": crontab(0, 4, day_of_month="1", month_of_year="*/3")},
                "every": {"task": "shop.clean", "schedule": 300.0, "args": (1, "ü"), "options": {"queue": "q", "expires": 9}},
                "fast": {"task": "shop.clean", "schedule": timedelta(seconds=0.5)},
                "no json": {"task": "shop.clean", "schedule": timedelta(days=2), "args": (object,)},
                "sunday!": {"task": "shop.clean", "schedule": crontab(day_of_week=0), "kwargs": {"dry": True}},
            },
        )
        """
        expected = """\
        # beat_schedule of shop: fired by the one master that has --scheduler.
        scheduled_workers:
          - celery: "shop.clean"
            queue: "celery"
            minute: "*/15"
            hour: "0-2,22-23"
            day_of_week: "mon,tue,wed,thu,fri"
            timezone: "Europe/Berlin"
            id: "cron"
          - celery: "shop.routed"
            queue: "other"
            minute: 0
            hour: 4
            day: 1
            month: "*/3"
            timezone: "Europe/Berlin"
            id: "day"
          # not taken over from every: expires=9
          - celery: "shop.clean"
            args: [1, "ü"]
            queue: "q"
            every: "5m"
            id: "every"
          # fast (shop.clean) cannot be said here: every 0.5 s is more often than once in a second
          # no json:
          # no json (shop.clean) cannot be said here: its arguments are no JSON
          # sunday!:
          - celery: "shop.clean"
            kwargs: {"dry": true}
            queue: "celery"
            minute: "*"
            day_of_week: "sun"
            timezone: "Europe/Berlin"
        """
        self.assertEqual(self.printed(code), textwrap.dedent(expected))

    def test_an_empty_one(self) -> None:
        self.assertIn("# It is empty.", self.printed("app.conf.result_expires = None\n"))
        odd = (
            "app.conf.update(result_expires=None, beat_schedule={'odd': {'task': 'shop.x', 'schedule': 'sometimes'}})\n"
        )
        self.assertIn(
            "scheduled_workers: []\n  # odd (shop.x) cannot be said here: a schedule of the type str", self.printed(odd)
        )


class Ahead(Celery):
    def test_what_is_not_begun_is_given_back(self) -> None:
        code = """
        @app.task(acks_late=False)
        def wait():
            signal.signal(signal.SIGUSR2, lambda *_: told("woken"))
            os.write(1, b"")
            signal.pause()
        """
        master = Master(code)
        self.assertEqual(master.ready["ahead"], 64)
        frames = [message("shop.wait") for _ in range(3)]
        master.stream.sendall(b"".join(json.dumps({"task": frame}).encode() + b"\n" for frame in frames))
        self.assertEqual(master.heard(), {"accept": {"id": frames[0]["id"]}})
        master.say(recall={})
        self.assertEqual(master.heard(), {"returned": {"ids": [frame["id"] for frame in frames[1:]]}})


if __name__ == "__main__":
    unittest.main()
