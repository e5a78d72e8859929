"""Tests of the module, each with a worker process of its own; the test is the master."""

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).parent
PREAMBLE = "from asynctask_worker import *\nimport os, signal, subprocess, sys, threading, time\n"
READY = {"ready": {"protocol": 1, "name": "w", "ahead": 64}}
UNTIL_TOLD = """
told = []
signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))

@worker("w")
def w(payload, task):
    print(task.id, flush=True)
    task.progress(0)
    while payload == "until told" and not told:
        # Nothing here lets go of the GIL.
        pass

run()
"""


class Master:
    """Plays the master against a program."""

    def __init__(self, code: str, *arguments: str, **environment: str) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        number = theirs.fileno()
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), *arguments]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(HERE), "ASYNCTASK_FD": str(number), **environment},
            pass_fds=[number],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        # A test that fails may leave a worker that is busy for good.
        unittest.addModuleCleanup(self.process.kill)
        theirs.close()
        self.stream = ours
        self.frames = ours.makefile("rb")

    def say(self, **frame: Any) -> None:
        self.stream.sendall(json.dumps(frame).encode() + b"\n")

    def task(self, payload: Any = None, **body: Any) -> Dict[str, Any]:
        """Gives a task and takes the frame that answers it."""
        self.say(task={"id": "a", "queue": "foo", "attempt": 1, "max_attempts": 3, "payload": payload, **body})
        return self.heard()

    def say_tasks(self, *ids: str, payload: Any = None) -> None:
        """Gives tasks in one write, and waits for nothing."""
        frames = ({"task": {"id": id, "queue": "foo", "payload": payload}} for id in ids)
        self.stream.sendall(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))

    def heard(self) -> Dict[str, Any]:
        line = self.frames.readline()
        frame: Dict[str, Any] = json.loads(line) if line else {}
        return frame

    def end(self, code: int = 0) -> str:
        """Waits for its end, and gives what it printed."""
        output = self.process.communicate(timeout=30)[0].decode()
        self.frames.close()
        self.stream.close()
        assert self.process.returncode == code, (self.process.returncode, output)
        return output

    def halt(self) -> str:
        self.say(halt={"reason": "stop"})
        assert self.heard() == {"bye": {}}
        return self.end()


def started(body: str, *arguments: str, **environment: str) -> Master:
    """A worker whose function has this body, and is ready."""
    code = '@worker("w")\ndef w(payload, task):\n' + textwrap.indent(textwrap.dedent(body), "    ") + "\nrun()\n"
    return checked(Master(code, *arguments, **environment))


def busy() -> Master:
    """A worker that has told that it works on `a`, and does so until `SIGUSR1` comes."""
    master = checked(Master(UNTIL_TOLD, PYTHONIOENCODING="utf-8:replace"))
    master.say_tasks("a", payload="until told")
    assert master.heard() == {"progress": {"id": "a", "note": "", "percent": 0.0}}
    return master


def checked(master: Master) -> Master:
    ready = master.heard()
    assert ready == READY, ready
    return master


class Outcomes(unittest.TestCase):
    def test_properties_are_asked_for_by_who_wants_them(self) -> None:
        code = """
        @worker("plain")
        def plain(payload, task):
            assert task.properties == {}, task.properties

        @worker("curious", properties=True)
        def curious(payload, task):
            assert task.properties == {"reply_to": "answers", "priority": 5}, task.properties

        run(sys.argv[1])
        """
        properties = {"reply_to": "answers", "priority": 5}
        for name, wants, body in (("plain", None, {}), ("curious", ["properties"], {"properties": properties})):
            master = Master(code, name)
            self.assertEqual(master.heard()["ready"].get("wants"), wants)
            self.assertEqual(master.task(**body), {"done": {"id": "a"}})
            master.halt()

    def test_nothing_is_done_and_the_worker_goes_on(self) -> None:
        master = started('print("got", payload, end="")')
        payloads: List[Any] = [{"n": 1}, None, "42", {}, [], 10**39 + 7, "ü\u2028\x00"]
        for payload in payloads:
            self.assertEqual(master.task(payload), {"done": {"id": "a"}})
        output = master.halt()
        self.assertIn(str(10**39 + 7), output)
        self.assertIn("got None", output)

    def test_returned_or_raised_is_the_same(self) -> None:
        expected = {
            "Retry()": {"retry": {"id": "a", "error": ""}},
            'Retry(1.5, "busy")': {"retry": {"id": "a", "error": "busy", "delay_ms": 1500}},
            "Snooze(0.0001)": {"snooze": {"id": "a", "delay_ms": 1}},
            'Dead("no")': {"failed": {"id": "a", "error": "no", "detail": ""}},
            'Malformed("odd")': {"malformed": {"id": "a", "error": "odd"}},
        }
        for verb in ("return", "raise"):
            master = started(f"{verb} eval(payload)")
            for text, frame in expected.items():
                self.assertEqual(master.task(text), frame)
            master.halt()

    def test_an_exception_is_an_error_with_its_traceback(self) -> None:
        master = started('raise ValueError("Oops!")')
        body = master.task()["error"]
        self.assertEqual((body["id"], body["error"]), ("a", "Oops!"))
        self.assertIn("Traceback", body["detail"])
        self.assertIn("ValueError: Oops!", body["detail"])
        self.assertEqual(master.task()["error"]["error"], "Oops!")
        master.halt()

    def test_another_value_is_the_result(self) -> None:
        master = started("return eval(payload)")
        results: List[Any] = [True, 0, "", [], {"ü": [None, 1e300, "\ud800"]}]
        for result in results:
            self.assertEqual(master.task(repr(result)), {"done": {"id": "a", "result": result}})
        self.assertEqual(master.task("None"), {"done": {"id": "a"}})
        for text, error in (("Retry", "not JSON serializable"), ("{1}", "not JSON serializable"), ("1e999", "not JSON")):
            self.assertIn(error, master.task(text)["error"]["error"])
        self.assertIn("16 MiB", master.task("'x' * (1 << 24)")["error"]["error"])
        self.assertEqual(master.task("7"), {"done": {"id": "a", "result": 7}})
        master.halt()

    def test_a_memo_goes_with_every_end_but_done(self) -> None:
        master = started("print(task.memo)\nfor step in payload:\n    exec(step)")
        memo = {"page": [7, "\ud800"]}
        frames = [
            ("raise Retry(memo=M)", {"retry": {"id": "a", "error": "", "memo": memo}}),
            ("raise Snooze(1, memo=M)", {"snooze": {"id": "a", "delay_ms": 1000, "memo": memo}}),
            ("raise Snooze(1, M)", {"snooze": {"id": "a", "delay_ms": 1000, "memo": memo}}),
            ('raise Dead("no", memo=0)', {"failed": {"id": "a", "error": "no", "detail": "", "memo": 0}}),
            ("raise Snooze(1)", {"snooze": {"id": "a", "delay_ms": 1000}}),
        ]
        for step, frame in frames:
            self.assertEqual(master.task([f"M = {memo!r}", step], memo={"page": 1}), frame)
        # One that is put down goes with the end, whatever it is, unless that has its own.
        kept = "task.memo = [1]; task.memo.append(2)"
        self.assertEqual(master.task([kept, "raise Snooze(0)"])["snooze"]["memo"], [1])
        self.assertEqual(master.task([kept, "raise Snooze(0, 7)"])["snooze"]["memo"], 7)
        self.assertEqual(master.task([kept, "print(task.memo)", "1 / 0"])["error"]["memo"], [1])
        self.assertEqual(master.task([kept]), {"done": {"id": "a"}})
        for step in ("raise Snooze(0, memo={1})", "task.memo = {1}"):
            self.assertIn("not JSON serializable", master.task([step])["error"]["error"])
        self.assertIn("too long", master.task(["raise Snooze(0, 'x' * (1 << 22))"])["error"]["error"])
        output = master.halt()
        self.assertTrue(output.startswith("{'page': 1}\n"), output)
        self.assertIn("None\n[1, 2]\n", output)

    def test_an_exit_is_a_death(self) -> None:
        for body in ("sys.exit(0)", "os._exit(0)"):
            master = started(body)
            self.assertEqual(master.task(), {})
            master.end()

    def test_what_is_no_text_elsewhere_is_made_one(self) -> None:
        master = started("raise ValueError('\\ud800' + 'x' * 10**6)")
        body = master.task()["error"]
        self.assertTrue(body["error"].startswith("?xxx") and len(body["error"]) < 70_000)
        self.assertLess(len(body["detail"]), 70_000)
        master.halt()


class Tasks(unittest.TestCase):
    def test_what_a_task_knows(self) -> None:
        body = "print(task.id, task.queue, task.attempt, task.max_attempts, task.headers, 50 < task.time_left() <= 60)"
        master = started(body)
        self.assertEqual(master.task(1, headers={"x": "y"}, deadline_ms=60_000), {"done": {"id": "a"}})
        self.assertEqual(master.halt(), "a foo 1 3 {'x': 'y'} True\n")
        master = started("print(task.deadline, task.time_left(), task.headers)")
        master.task()
        self.assertEqual(master.halt(), "None None {}\n")

    def test_a_task_of_a_job(self) -> None:
        body = """
            if task.job is None:
                task.item(1)
            job = task.job
            print(job.id, job.pipeline, job.key, job.step, job.index, job.wipe, job.inputs)
            task.item({"n": 1})
            task.item(None, delay=1.5)
            task.more("\\ud800", 0)
            task.start("nightly", {}, id="tonight")
            task.start("nightly", None)
            return job.inputs.get("collect", {}).get("result")
        """
        master = started(body)
        inputs = {"collect": {"state": "done", "result": [1], "memo": None}}
        job = {"id": "j", "pipeline": "p", "key": "k", "step": "s", "index": 3}
        submitted = [
            {"item": {"n": 1}},
            {"item": None, "delay_ms": 1500},
            {"more": "\ud800"},
            {"pipeline": "nightly", "payload": {}, "id": "tonight"},
            {"pipeline": "nightly", "payload": None},
        ]
        done = {"done": {"id": "a", "submit": submitted, "result": [1]}}
        self.assertEqual(master.task(job={**job, "inputs": inputs}), done)
        del done["done"]["result"]
        self.assertEqual(master.task(job={**job, "key": None, "wipe": True, "later": 1}), done)
        self.assertEqual(master.task()["error"]["error"], "the task a is of no job: it has no items")
        self.assertEqual(master.halt(), f"j p k s 3 False {inputs}\nj p None s 3 True {{}}\n")

    def test_bytes(self) -> None:
        master = started("print(payload)")
        text = base64.b64encode(b"\0\xff{").decode()
        master.say(task={"id": "b", "payload_base64": text})
        self.assertEqual(master.heard(), {"done": {"id": "b"}})
        self.assertEqual(master.halt(), "b'\\x00\\xff{'\n")

    def test_text_that_is_not_escaped(self) -> None:
        master = started("task.submit('bar', payload)")
        master.stream.sendall('{"task":{"id":"ü\u2028","payload":"✓\U0001f600"}}\n'.encode())
        submitted = [{"queue": "bar", "payload": "✓\U0001f600", "delay_ms": 0}]
        self.assertEqual(master.heard(), {"done": {"id": "ü\u2028", "submit": submitted}})
        master.halt()

    def test_progress_accept_and_submit(self) -> None:
        body = """
            task.progress(40, "half")
            task.accept()
            many = {"n": 1}
            task.submit("bar", many, 2)
            many["n"] = 2
            task.submit("bar", "\\ud800", 0)
        """
        master = started(body)
        self.assertEqual(master.task(), {"progress": {"id": "a", "note": "half", "percent": 40.0}})
        self.assertEqual(master.heard(), {"accept": {"id": "a"}})
        submitted = [
            {"queue": "bar", "payload": {"n": 1}, "delay_ms": 2000},
            {"queue": "bar", "payload": "\ud800", "delay_ms": 0},
        ]
        self.assertEqual(master.heard(), {"done": {"id": "a", "submit": submitted}})
        # Nothing is left of it for the next one.
        self.assertIn("progress", master.task())
        self.assertEqual(master.heard(), {"accept": {"id": "a"}})
        self.assertEqual(len(master.heard()["done"]["submit"]), 2)
        master.halt()

    def test_what_cannot_be_submitted_is_an_error_of_the_task(self) -> None:
        master = started("task.submit('bar', eval(payload))")
        for payload in ("float('nan')", "{1, 2}", "'x' * 17_000_000"):
            self.assertTrue(master.task(payload)["error"]["error"], payload)
        master.halt()

    def test_numbers_of_any_length_and_depths_of_any_depth(self) -> None:
        master = started("print(type(payload).__name__)")
        digits = b"1" * 10_000
        master.stream.sendall(b'{"task":{"id":"a","payload":' + digits + b"}}\n")
        self.assertEqual(master.heard(), {"done": {"id": "a"}})
        deep = b"[" * 200_000 + b"]" * 200_000
        master.stream.sendall(b'{"task":{"id":"b","payload":' + deep + b"}}\n")
        self.assertIn("malformed", master.heard())
        self.assertEqual(master.task("x"), {"done": {"id": "a"}})
        master.halt()

    def test_a_large_payload(self) -> None:
        master = started("print(len(payload))")
        self.assertEqual(master.task("x" * 10_000_000), {"done": {"id": "a"}})
        self.assertEqual(master.halt(), "10000000\n")


class Ahead(unittest.TestCase):
    def done(self, master: Master, task_id: str) -> None:
        self.assertIn("progress", master.heard())
        self.assertEqual(master.heard(), {"done": {"id": task_id}})

    def test_tasks_are_done_in_their_order_and_a_halt_comes_behind_them(self) -> None:
        master = started("print(task.id)")
        ids = [str(number) for number in range(65)]
        master.say_tasks(*ids)
        master.say(halt={"reason": "empty"})
        for task_id in ids:
            self.assertEqual(master.heard(), {"done": {"id": task_id}})
        self.assertEqual(master.heard(), {"bye": {}})
        self.assertEqual(master.end().split(), ids)

    def test_what_is_not_begun_is_given_back_while_a_task_runs(self) -> None:
        master = busy()
        master.say_tasks("b", "c", "d")
        master.say(recall={})
        self.assertEqual(master.heard(), {"returned": {"ids": ["b", "c", "d"]}})
        master.say(recall={})
        self.assertEqual(master.heard(), {"returned": {"ids": []}})
        # One of them comes once more, and counts like any other.
        master.say_tasks("e", "b")
        master.process.send_signal(signal.SIGUSR1)
        self.assertEqual(master.heard(), {"done": {"id": "a"}})
        self.done(master, "e")
        self.done(master, "b")
        self.assertEqual(master.halt(), "a\ne\nb\n")

    def test_a_recall_leaves_what_is_no_task(self) -> None:
        master = busy()
        master.say_tasks("b")
        master.say(ping={"n": 1})
        master.say_tasks("c")
        master.say(ping={"n": 2})
        master.say(halt={"reason": "recycle"})
        master.say(recall={})
        self.assertEqual(master.heard(), {"returned": {"ids": ["b", "c"]}})
        master.process.send_signal(signal.SIGUSR1)
        expected: List[Dict[str, Any]] = [{"done": {"id": "a"}}, {"pong": {"n": 1}}, {"pong": {"n": 2}}, {"bye": {}}]
        for frame in expected:
            self.assertEqual(master.heard(), frame)
        self.assertEqual(master.end(), "a\n")

    def test_nothing_comes_after_bye(self) -> None:
        code = """
        @worker("w")
        def w(payload, task): pass

        run()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join()
        """
        master = checked(Master(code))
        master.say(halt={"reason": "stop"})
        self.assertEqual(master.heard(), {"bye": {}})
        master.say(recall={})
        master.stream.shutdown(socket.SHUT_WR)
        self.assertEqual(master.heard(), {})
        self.assertEqual(master.end(), "")

    def test_a_task_is_done_or_returned_and_never_both(self) -> None:
        chance = random.Random(12)
        master = started("print(task.id)\nfor _ in range(payload): pass")
        left = [str(number) for number in range(2_000)]
        # Each of what was sent and not answered, in its order; a recall is None.
        sent: List[Any] = []
        done: List[str] = []
        returned: List[str] = []

        def hear() -> None:
            frame = master.heard()
            if "done" in frame:
                tasks = [item for item in sent if item is not None]
                self.assertEqual(frame["done"]["id"], tasks[0])
                done.append(tasks[0])
                sent.remove(tasks[0])
            else:
                recall = sent.index(None)
                ids = frame["returned"]["ids"]
                # All of them but the one in hand, and that too if it was not begun.
                self.assertLessEqual(recall - len(ids), 1)
                self.assertEqual(ids, sent[recall - len(ids) : recall])
                returned.extend(ids)
                del sent[recall - len(ids) : recall + 1]

        while left or sent:
            count = chance.randrange(66 - len(sent)) if len(sent) < 65 else 0
            for task_id in left[:count]:
                master.say_tasks(task_id, payload=chance.choice([0, 10, 5_000]))
                sent.append(task_id)
            del left[:count]
            if chance.random() < 0.3:
                master.say(recall={})
                sent.append(None)
            for _ in range(chance.randint(1, len(sent)) if sent else 0):
                if sent:
                    hear()
        self.assertEqual(len(done) + len(returned), 2_000)
        self.assertEqual(len({*done, *returned}), 2_000)
        self.assertTrue(len(done) > 200 and len(returned) > 200, (len(done), len(returned)))
        self.assertEqual(master.halt().split(), done)

    def test_ids_are_told_as_they_came(self) -> None:
        ids = ['"', "\\", '\\"}', "a\nb\u2028", "ü\U0001f600", "\ud83d", "", '"]}}', "recall"]
        for ascii_alone in (True, False):
            master = busy()
            expected = [task_id for task_id in ids if ascii_alone or task_id.isprintable()]
            for task_id in expected:
                for id_is_first in (True, False):
                    body = {"id": task_id, "queue": "foo"} if id_is_first else {"queue": "foo", "id": task_id}
                    line = json.dumps({"task": body}, ensure_ascii=ascii_alone, indent=None if id_is_first else "")
                    master.stream.sendall(line.replace("\n", " ").encode() + b"\n")
            twice = [task_id for task_id in expected for _ in "ab"]
            master.say(recall={})
            self.assertEqual(master.heard(), {"returned": {"ids": twice}})
            master.process.send_signal(signal.SIGUSR1)
            self.assertEqual(master.heard(), {"done": {"id": "a"}})
            for task_id in expected:
                master.say_tasks(task_id)
                self.assertIn("progress", master.heard())
                self.assertEqual(master.heard(), {"done": {"id": task_id}})
            master.halt()

    def test_without_tasks_ahead_there_is_one_thread(self) -> None:
        code = '@worker("w")\ndef w(payload, task): print(threading.active_count())\n'
        for run, ahead, threads in (("run()", 64, 2), ("run(ahead=3)", 3, 2), ("run(ahead=0)", None, 1)):
            master = Master(code + run)
            self.assertEqual(master.heard()["ready"].get("ahead"), ahead)
            self.assertEqual(master.task(), {"done": {"id": "a"}})
            master.say(recall={})
            self.assertEqual(master.heard(), {"returned": {"ids": []}})
            self.assertEqual(master.halt(), f"{threads}\n")
        for wrong in (-1, 2**32):
            self.assertIn("ahead is a number of tasks", Master(code + f"run(ahead={wrong})").end(1))

    def test_nothing_ahead_is_begun_when_the_master_is_gone(self) -> None:
        # The first task ends once the worker knows: then nobody reads any more.
        body = """
            print(task.id, flush=True)
            task.progress(0)
            while threading.active_count() > 1:
                pass
        """
        for how, heard in ((socket.SHUT_RDWR, {}), (socket.SHUT_WR, {"done": {"id": "a"}})):
            master = started(body)
            master.say_tasks("a", "b", "c")
            self.assertIn("progress", master.heard())
            master.stream.shutdown(how)
            self.assertEqual(master.heard(), heard)
            self.assertEqual(master.end(), "a\n")

    def test_a_master_that_has_not_read_everything_is_gone_too(self) -> None:
        for run in ("run()", "run(ahead=0)"):
            master = Master('@worker("w")\ndef w(payload, task): pass\n' + run)
            self.assertIn("ready", master.heard())
            master.say_tasks("a")
            # Its outcome is there and is not read: the end of the connection is a reset.
            self.assertTrue(master.stream.recv(1, socket.MSG_PEEK))
            master.frames.close()
            master.stream.close()
            self.assertEqual(master.end(), "")

    def test_a_death_leaves_the_others_unbegun(self) -> None:
        for body in ("sys.exit(0)", "os._exit(0)"):
            master = started("print(task.id, flush=True)\n" + body)
            master.say_tasks("a", "b", "c")
            self.assertEqual(master.heard(), {})
            self.assertEqual(master.end(), "a\n")

    def test_processes_of_a_task(self) -> None:
        code = """
        import multiprocessing

        def child(task):
            task.progress(50, "child")
            print("child", threading.active_count(), flush=True)

        @worker("w")
        def w(payload, task):
            process = multiprocessing.get_context("fork").Process(target=child, args=(task,))
            process.start()
            process.join()
            print(process.exitcode, flush=True)
            subprocess.run(["echo", "program"], preexec_fn=lambda: None)

        run()
        """
        master = checked(Master(code, PYTHONWARNINGS="ignore"))
        master.say_tasks("a", "b")
        for task_id in "ab":
            self.assertEqual(master.heard(), {"progress": {"id": task_id, "note": "child", "percent": 50.0}})
            self.assertEqual(master.heard(), {"done": {"id": task_id}})
        self.assertEqual(master.halt(), "child 1\n0\nprogram\n" * 2)

    def test_a_copy_of_the_process_says_nothing_of_the_task_and_takes_no_other(self) -> None:
        # The copy comes back from the function, by its end or by an exception: that is wrong, and nobody's task is harmed.
        code = """
        @worker("w")
        def w(payload, task):
            print(task.id, flush=True)
            if task.id in "ab":
                child = os.fork()
                if child:
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
                elif task.id == "b":
                    os.execvp("/no/such/program", ["program"])

        run(ahead=AHEAD)
        """
        for ahead in "0", "64":
            master = Master(code.replace("AHEAD", ahead), PYTHONWARNINGS="ignore")
            self.assertIn("ready", master.heard())
            master.say_tasks("a", "b", "c")
            for task_id in "abc":
                self.assertEqual(master.heard(), {"done": {"id": task_id}}, ahead)
            said = master.halt()
            self.assertIn("in a child of the worker: ", said)
            told = [line for line in said.splitlines() if not line.startswith("in a child")]
            self.assertEqual(told, ["a", "0", "b", "1", "c"])


class Life(unittest.TestCase):
    def test_code_that_closes_the_socket_ends_the_process_whatever_keeps_it(self) -> None:
        code = """
        @worker("w")
        def w(payload, task):
            # As a thread of a library that nobody tells to end.
            threading.Thread(target=threading.Event().wait).start()
            os.closerange(3, 100)

        run(ahead=AHEAD)
        """
        for ahead in ("64", "0"):
            master = Master(code.replace("AHEAD", ahead))
            self.assertIn("ready", master.heard())
            master.say_tasks("a", payload=1)
            self.assertIn("the socket to the master was closed here", master.end(70))

    def test_what_is_asked_when_idle_is_answered(self) -> None:
        master = started("pass")
        master.say(ping={"n": 7})
        self.assertEqual(master.heard(), {"pong": {"n": 7}})
        master.say(recall={})
        self.assertEqual(master.heard(), {"returned": {"ids": []}})
        master.say(news={"of": "protocol 2"})
        master.say(log_level={"level": "DEBUG", "news": 1})
        master.say(ping={"n": 8, "news": 1})
        self.assertEqual(master.heard(), {"pong": {"n": 8}})
        master.halt()

    def test_lines_of_the_log(self) -> None:
        body = 'print("before"); task.log("debug", "d"); task.log("warn", "w"); print("after")'
        master = started(body, ASYNCTASK_LOG_LEVEL="INFO")
        master.task()
        master.say(log_level={"level": "DEBUG"})
        master.task()
        expected = "before\nWARNING:w:w\nafter\nbefore\nDEBUG:w:d\nWARNING:w:w\nafter\n"
        self.assertEqual(master.halt(), expected)
        master = started(body, ASYNCTASK_LOG_FORMAT="json")
        self.assertEqual(master.task(), {"log": {"level": "WARNING", "message": "w"}})
        self.assertEqual(master.heard(), {"done": {"id": "a"}})
        master.halt()

    def test_signals_stop_nobody_and_programs_get_them(self) -> None:
        body = """
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
            child = subprocess.Popen(["sleep", "1000"])
            child.terminate()
            print(child.wait())
        """
        master = started(body)
        self.assertEqual(master.task(), {"done": {"id": "a"}})
        self.assertEqual(master.halt(), f"-{int(signal.SIGTERM)}\n")

    def test_programs_of_a_task_do_not_get_the_socket(self) -> None:
        body = "subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False)"
        master = started(body)
        master.task()
        self.assertNotIn("socket", master.halt())

    def test_the_end_of_the_master_is_the_end(self) -> None:
        master = started("pass")
        master.stream.shutdown(socket.SHUT_WR)
        self.assertEqual(master.end(), "")

    def test_a_closed_stdout_is_no_reason_to_fail(self) -> None:
        master = started("sys.stdout.close()")
        self.assertEqual(master.task(), {"done": {"id": "a"}})
        master.halt()

    def test_one_of_several_is_chosen_by_the_argument(self) -> None:
        code = '@worker("a")\ndef a(p, t): print("a")\n@worker("b")\ndef b(p, t): print("b")\nrun()\n'
        master = Master(code, "b")
        self.assertEqual(master.heard(), {"ready": {"protocol": 1, "name": "b", "ahead": 64}})
        master.task()
        self.assertEqual(master.halt(), "b\n")
        for arguments in ([], ["c"]):
            self.assertIn("known: a, b", Master(code, *arguments).end(64))

    def test_without_a_master_it_says_so(self) -> None:
        code = '@worker("a")\ndef a(p, t): pass\nrun()\n'
        for number in ("", "nine", "987"):
            self.assertIn("ASYNCTASK_FD", Master(code, ASYNCTASK_FD=number).end(64))

    def test_what_no_worker_can_be_is_refused(self) -> None:
        wrong = {
            '@worker("a")\nasync def a(p, t): pass\n': "coroutine",
            '@worker("a")\ndef a(p, t): pass\n@worker("a")\ndef b(p, t): pass\n': "registered twice",
        }
        for code, text in wrong.items():
            self.assertIn(text, Master(code).end(1))


if __name__ == "__main__":
    unittest.main()
