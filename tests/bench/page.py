#!/usr/bin/env python3
"""What the page costs, how fast it is, and whether its numbers are true.

    cargo build --release && tests/bench/page.py [ROUNDS [PART…]]

Parts: `pages`, `truth`, `cost`, `crowd`. SQLite, in a temporary folder; standard library alone. Nothing is judged: it is printed. What is to be
held stands in README.md beside this file.
"""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("ASYNCTASK", TARGET / "release/asynctask")
# Does nothing, fails or dies, as its task says.
SHOP = f"kinds: {{ shop: {{ command: [python3, {ROOT}/tests/browser/worker.py] }} }}\n"
HISTORY_ROWS = 100_000
LETTERS = 10_000
TASKS = 100_000
DRAINED = 30_000
ASKED = 30


class Stage:
    """A folder with settings, a master, and a page."""

    def __init__(self, folder, settings):
        self.folder = pathlib.Path(folder)
        self.transport = f"sqlite:{self.folder}/tasks.db"
        (self.folder / "asynctask.yaml").write_text(SHOP + settings)
        self.page_process = self.master_process = None

    def command(self, *words):
        return [PROGRAM, *words, "--set", f"transport={self.transport}"]

    def run(self, *words, text=None):
        ran = subprocess.run(self.command(*words), cwd=self.folder, input=text, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def master(self, *words):
        command = self.command("workers", "--log-level", "error", *words)
        self.master_process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        return self.master_process

    def page(self, *words):
        command = self.command("dashboard", "--listen", "127.0.0.1:0", *words)
        self.page_process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        link = self.page_process.stdout.readline().removeprefix("open http://").strip()
        self.host, rest = link.split("/", 1)
        answer = self.ask(f"/{rest}", {})
        self.cookie = {"Cookie": answer[2]["set-cookie"].split(";")[0]}

    def ask(self, path, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        connection.request("GET", path, headers=self.cookie if headers is None else headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers

    def json(self, path):
        return json.loads(self.ask(path)[1])

    def end(self):
        for process in (self.page_process, self.master_process):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait()
        self.page_process = self.master_process = None


@contextlib.contextmanager
def staged(settings):
    with tempfile.TemporaryDirectory() as folder:
        made = Stage(folder, settings)
        try:
            yield made
        finally:
            made.end()


def until(what, ask):
    end = time.monotonic() + 120
    while not ask():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def fill_history(made):
    """As many ends as the file keeps: done, retried and dead, of ten queues over a day."""
    file = next(made.folder.glob("*.history.db"))
    now = int(time.time() * 1000)
    with sqlite3.connect(file) as history:
        def row(number):
            at = now - (HISTORY_ROWS - number) * 800
            outcome = (0, 0, 0, 3, 4)[number % 5]
            error = f"row {number} is missing: {'x' * 100}" if outcome >= 3 else None
            cause = '{"reason":"error","fingerprint":"ab12cd34"}' if outcome >= 3 else None
            return (at // 300_000, at, "host", f"q{number % 10}", "kind", "q[1]", 7, f"task-{number:06}", 1, outcome, 0.01, 0.02, error, cause)
        history.executemany(
            "INSERT INTO ended (step, at, host, queue, kind, slot, pid, task, attempt, outcome, waited, ran, error, cause)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(row, range(HISTORY_ROWS)))
        history.execute("INSERT OR IGNORE INTO counts SELECT step, outcome, host, queue, kind, count(*) FROM ended GROUP BY 1, 2, 3, 4, 5")


def fill_letters(made):
    """Dead letters of 20 errors, each with 8 KiB of output, made as a worker's end makes them and then copied."""
    made.run("submit", "foo", '{"then":"failed","error":"no"}')
    made.run("workers", "--halt-when-empty", "--log-level", "error")
    with sqlite3.connect(made.transport.removeprefix("sqlite:")) as file:
        columns = [name for _, name, *_ in file.execute("PRAGMA table_info(task)") if name != "id"]
        kept = file.execute(f"SELECT {', '.join(columns)} FROM task WHERE state = 2").fetchone()
        place = {name: number for number, name in enumerate(columns)}
        rows = []
        for number in range(LETTERS - 1):
            row = list(kept)
            failure = json.loads(row[place["failure"]])
            failure["error"] = f"error {'abcdefghijklmnopqrst'[number % 20]} of row {number}"
            failure["output_tail"] = f"line {number}\n" * (8192 // 12)
            row[place["failure"]] = json.dumps(failure)
            row[place["message_id"]] = f"letter-{number}"
            if "fingerprint" in place:
                row[place["fingerprint"]] = number % 20 if isinstance(row[place["fingerprint"]], int) else f"{number % 20:08x}"
            rows.append(row)
        file.executemany(f"INSERT INTO task ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)


def pages():
    with staged("workers: { foo: { worker: shop, processes: 2 } }\n") as made:
        fill_letters(made)
        made.master()
        made.page()
        until("no history", lambda: list(made.folder.glob("*.history.db")) and made.json("/api/tasks")["counts"])
        made.end()
        fill_history(made)
        made.master()
        made.page()
        until("no master", lambda: made.ask("/api/health")[0] == 200 and made.json("/api/health"))
        next_page = made.json("/api/failed/foo?limit=500")["next"]
        middle = made.json("/api/tasks")["records"][0]["row"] - HISTORY_ROWS // 2
        paths = ["/", "/queues/foo", "/queues/foo?span=day", "/tasks", "/tasks?state=error", "/tasks?queue=q3", "/tasks?last=24h",
                 "/tasks?text=task-0500", "/tasks?text=nowhere", f"/tasks?before={middle}", f"/tasks?state=finished&before={middle}",
                 "/tasks/task-050000", "/failed", "/failed/foo", f"/failed/foo?after={next_page}", "/failed/foo?reason=failed",
                 "/failed/foo/letter-5000", "/schedules", "/api/tasks", "/api/failed/foo?limit=500", "/api/live?view=/"]
        print(f"pages: {HISTORY_ROWS} rows of history, {LETTERS} dead letters with 8 KiB of output")
        print(f"  {'':42} {'median':>8} {'p95':>8} {'bytes':>9}")
        for path in paths:
            times = []
            for _ in range(ASKED):
                began = time.perf_counter()
                status, body, _ = made.ask(path)
                times.append((time.perf_counter() - began) * 1000)
                assert status == 200, (path, status, body[:200])
            times.sort()
            print(f"  {path:42} {statistics.median(times):5.1f} ms {times[int(ASKED * 0.95)]:5.1f} ms {len(body):9}")


def truth():
    """Mixed tasks: what the page says, what the master counts, what was submitted."""
    retry = "retry: { max_attempts: 2, first: 0s }"
    with staged(f"workers: {{ foo: {{ worker: shop, processes: 2, {retry} }} }}\n") as made:
        kinds = {"dead": '{"then":"failed","error":"no"}', "error": '{"then":"error","error":"no"}', "crash": '{"then":"SIGSEGV"}'}
        def kind(number):
            return {1: "dead", 2: "error"}.get(number % 100, "crash" if number % 20_000 == 4 else "done")
        wanted = [kind(number) for number in range(TASKS)]
        made.master()
        made.page()
        until("no history", lambda: made.ask("/api/tasks")[0] == 200 and made.json("/api/tasks")["counts"])
        made.run("submit", "foo", "-", text="".join(kinds.get(word, "{}") + "\n" for word in wanted))
        until("they do not end", lambda: made.run("queues", "--json") and all(json.loads(made.run("queues", "--json"))["foo"][what] == 0 for what in ("ready", "delayed", "in_hand")))
        count = {word: wanted.count(word) for word in set(wanted)}
        done, dead = count["done"], count["dead"] + count["error"] + count["crash"]
        total = lambda: {what: told["total"] for what, told in made.json("/api/tasks")["counts"].items()}
        until("they are not counted", lambda: total()["done"] + total()["dead"] >= TASKS)
        counters = made.json("/api/counters")["queues"]["foo"]
        told = made.json("/api/tasks")["counts"]
        print(f"truth: {TASKS} tasks; submitted to be done {done}, dead {dead}, retried {count['error'] + count['crash']}")
        print(f"  master: done {counters['done']}, dead {sum(counters['dead'].values())}, retried {sum(counters['retried'].values())}")
        print(f"  page:   done {told['done']['total']}, dead {told['dead']['total']}, retried {told['retried']['total']}; "
              f"listed {sum(part['listed'] for part in told.values())}, left out {sum(part['left_out'] for part in told.values())}")


def drained(made):
    """Tasks in a second, of a queue that is filled before; and the master's peak memory in MiB."""
    made.run("submit", "foo", "-", text="{}\n" * DRAINED)
    began = time.monotonic()
    master = made.master("--halt-when-empty")
    peak = 0
    while master.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            status = pathlib.Path(f"/proc/{master.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.05)
    assert master.returncode == 0
    return DRAINED / (time.monotonic() - began), peak / 1024


def cost(rounds):
    """The same drain with and without a page, in turn: a page that is looked at, one that nobody looks at, one that stands still, one
    whose disk is full."""
    rates = {}
    for _ in range(rounds):
        for how in ("without", "unseen", "seen", "stopped", "full disk"):
            with staged("workers: { foo: { worker: shop, processes: 2 } }\n") as made:
                looking = None
                if how == "full disk":
                    if not pathlib.Path("/dev/full").exists() or os.getuid() != 0:
                        continue
                    disk = made.folder / "disk"
                    disk.mkdir()
                    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, check=False).returncode:
                        continue
                    (disk / "filled").write_bytes(b"x" * 60_000)
                    made.page("--set", f"dashboard.history={disk}/history.db")
                elif how != "without":
                    made.page()
                if how == "seen":
                    looking = subprocess.Popen(["curl", "-sN", "-H", f"Cookie: {made.cookie['Cookie']}", f"http://{made.host}/stream?view=/"], stdout=subprocess.DEVNULL)
                if how == "stopped":
                    made.page_process.send_signal(signal.SIGSTOP)
                rates.setdefault(how, []).append(drained(made))
                if looking:
                    looking.kill()
                    looking.wait()
                if how == "full disk":
                    made.end()
                    subprocess.run(["umount", made.folder / "disk"], check=True)
    print(f"cost: {DRAINED} tasks that do nothing, start of the master included; {rounds} rounds in turn")
    bare = rates["without"]
    for how, figures in rates.items():
        ratio = statistics.median(rate / other for (rate, _), (other, _) in zip(figures, bare))
        rate, peak = (statistics.median(values) for values in zip(*figures))
        print(f"  {how:10} {rate:8.0f} tasks/s  {ratio:5.2f} of without  master at most {peak:5.1f} MiB")


def processor(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def crowd():
    """What the master's processor time is with one who looks, and with a hundred."""
    with staged("workers: { foo: { worker: shop, processes: 2 } }\n") as made:
        master = made.master()
        made.page()
        until("no master", lambda: made.ask("/api/health")[0] == 200)
        print("crowd: processor time in 10 s of the master and of the page")
        for clients in (1, 100):
            streams = []
            for _ in range(clients):
                host, port = made.host.split(":")
                stream = socket.create_connection((host, int(port)))
                stream.sendall(f"GET /stream?view=/ HTTP/1.1\r\nHost: {made.host}\r\nCookie: {made.cookie['Cookie']}\r\n\r\n".encode())
                streams.append(stream)
            time.sleep(2)
            before = processor(master.pid), processor(made.page_process.pid)
            asked, worst, end = 0, 0.0, time.monotonic() + 10
            while time.monotonic() < end:
                # Those without a stream ask every five seconds.
                for _ in range(max(clients - 32, 1) // 5 or 1):
                    began = time.perf_counter()
                    assert made.ask("/api/live?view=/")[0] == 200
                    worst, asked = max(worst, time.perf_counter() - began), asked + 1
                time.sleep(1)
            after = processor(master.pid), processor(made.page_process.pid)
            print(f"  {clients:3} clients: master {after[0] - before[0]:.2f} s, page {after[1] - before[1]:.2f} s; {asked} questions, the slowest {worst * 1000:.0f} ms")
            for stream in streams:
                stream.close()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    parts = {"pages": pages, "truth": truth, "cost": lambda: cost(rounds), "crowd": crowd}
    for part in sys.argv[2:] or parts:
        parts[part]()


if __name__ == "__main__":
    main()
