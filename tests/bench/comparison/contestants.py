"""What is measured: groups of contestants that do the same tasks, and how each one is filled, started and measured.

A measurement fills a queue of its own before any worker starts, starts the workers, and gives the tasks per second
from the first task begun to the last one ended, told by the tasks themselves (`programs/meter.py`,
`tests/bench/measured.rs`). A bare loop measures itself in the same way. Tasks are so many that each takes some
seconds, since the rate does not depend on their number.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from . import mix
from .broker import Broker
from .run_file import Value
from .stage import Failed, Stage, Started, wait_until
from .tools import MODULE, PROGRAMS, Tools

RECORDS = "ASYNCTASK_BENCH_RECORDS"
WORKERS = 2
MIX_WORKERS = 4
ACKS = 64
"""Tasks that a batched bare loop acknowledges at a time, or settles and claims in one transaction."""


class Size(NamedTuple):
    """Of one measurement: tasks (bursts, in a mix), and the length of a payload in bytes of JSON."""

    tasks: int
    length: int


class Contestant(NamedTuple):
    name: str
    label: str
    tasks: int
    quick: int
    measure: Callable[["Bench", Size], Value]


class Group(NamedTuple):
    name: str
    title: str
    length: int
    baselines: Tuple[str, ...]
    """Contestants whose rates the others are divided by, round for round."""
    contestants: Tuple[Contestant, ...]


class Record(NamedTuple):
    began: int
    ended: int
    tasks: int

    def rate(self) -> float:
        return self.tasks / ((self.ended - self.began) / 1e9)


def records(folder: Path) -> Record:
    """What all worker processes of a measurement have done so far."""
    numbers = [struct.unpack("3q", path.read_bytes().ljust(24, b"\0")) for path in folder.glob("*.record")]
    begun = [one for one in numbers if one[2] > 0]
    if not begun:
        return Record(0, 0, 0)
    return Record(min(one[0] for one in begun), max(one[1] for one in begun), sum(one[2] for one in begun))


class Bench:
    """Measures: the steps that contestants share."""

    def __init__(self, stage: Stage, tools: Tools) -> None:
        self.stage = stage
        self.tools = tools
        self._broker: Union[Broker, str, None] = None
        self._queues = 0

    def broker(self) -> Broker:
        """Started when it is asked for first. One that failed is not tried again in this run."""
        if self._broker is None:
            try:
                self._broker = Broker(self.stage)
            except Failed as failure:
                self._broker = str(failure)
        if isinstance(self._broker, str):
            raise Failed(self._broker)
        return self._broker

    def broker_version(self) -> Optional[str]:
        return self._broker.version if isinstance(self._broker, Broker) else None

    def queue(self) -> str:
        """A name that no other measurement has."""
        self._queues += 1
        return f"compare{self._queues}"

    def step(self, *words: object) -> str:
        """A step of `tests/bench/measure.rs`."""
        return self.stage.run([self.tools.bench, "measure", *words], f"measure-{words[0]}").strip()

    def master(self, uri: str, queue: str, kind: str, processes: int, folder: Path, *options: str) -> Started:
        """Our master; `kind` is `rust/NAME` or `python/NAME`, or `celery`: the application whose own workers are another
        contestant."""
        language, _, name = kind.partition("/")
        kinds: Dict[str, Any] = {}
        worker: Dict[str, Any] = {"worker": name or language, "processes": processes}
        if language == "python":
            program = str(PROGRAMS / "asynctask_kinds.py")
            kinds = {"python": {"command": [sys.executable, program, name]}}
            worker["worker"] = "python"
        elif language == "celery":
            python = str(self.tools.python_with("celery"))
            kinds = {"celery": {"command": [python, "-m", "asynctask_celery", "--app", "celery_tasks:app"]}}
            worker["protocol"] = "celery"
        workers = {queue: worker}
        settings = {"transport": uri, "workers": json.dumps(workers), "kinds": json.dumps(kinds)}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        environment = {**self.environment(folder), "COMPARE_BROKER": uri, "COMPARE_QUEUE": queue}
        return self.stage.start([self.tools.bench, "workers", *options, *words], "asynctask", environment)

    def environment(self, folder: Path) -> Dict[str, object]:
        """Of workers, whose records go to `folder`."""
        return {RECORDS: folder, "PYTHONPATH": f"{PROGRAMS}:{MODULE}", "PYTHONDONTWRITEBYTECODE": 1}

    def broker_environment(self, folder: Path) -> Dict[str, object]:
        """Of workers and producers of other systems, on a queue of their own."""
        return {**self.environment(folder), "COMPARE_BROKER": self.broker().uri, "COMPARE_QUEUE": self.queue()}

    def drained(self, worker: Started, folder: Path, tasks: int) -> float:
        """Waits for the last task of a system that does not end by itself, and ends it: what it would do at its stop
        is not measured."""
        try:
            wait_until(worker, tasks, lambda: records(folder).tasks, "tasks")
        finally:
            self.stage.kill(worker)
        return records(folder).rate()


def bare_amqp(acks: int) -> Callable[[Bench, Size], Value]:
    def measure(bench: Bench, size: Size) -> Value:
        uri, queue = bench.broker().uri, bench.queue()
        bench.step("fill", uri, queue, size.tasks, size.length)
        return float(bench.step("amqp", uri, queue, size.tasks, acks))

    return measure


def bare_sqlite(bench: Bench, size: Size) -> Value:
    file = bench.stage.subfolder("bare") / "bare.db"
    return float(bench.step("sqlite", file, size.tasks, size.length, ACKS))


def place(bench: Bench, transport: str) -> str:
    """The address of a queue's transport: the broker, or a new file."""
    return bench.broker().uri if transport == "amqp" else f"sqlite:{bench.stage.subfolder('sqlite')}/queue.db"


def ours(transport: str, kind: str) -> Callable[[Bench, Size], Value]:
    def measure(bench: Bench, size: Size) -> Value:
        uri, queue, folder = place(bench, transport), bench.queue(), bench.stage.subfolder("records")
        bench.step("fill", uri, queue, size.tasks, size.length)
        master = bench.master(uri, queue, kind, WORKERS, folder, "--halt-when-empty")
        bench.stage.finish(master)
        record = records(folder)
        if record.tasks != size.tasks:
            raise Failed(f"asynctask: {record.tasks} tasks were done, not {size.tasks}")
        return record.rate()

    return measure


def fill(bench: Bench, python: Path, program: str, task: str, size: Size, environment: Dict[str, object]) -> None:
    """By the system's own producer. The program is imported, as its workers do: huey's tasks are called by their
    module."""
    call = f"import {program}; {program}.fill({task!r}, {size.tasks}, {size.length})"
    bench.stage.run([python, "-c", call], f"{program}-fill", environment)


def celery(task: str) -> Callable[[Bench, Size], Value]:
    """Prefork, late acknowledgement, a prefetch of 64 in all."""

    def measure(bench: Bench, size: Size) -> Value:
        python, folder = bench.tools.python_with("celery"), bench.stage.subfolder("records")
        environment = bench.broker_environment(folder)
        fill(bench, python, "celery_tasks", task, size, environment)
        return bench.drained(celery_worker(bench, environment, "WARNING"), folder, size.tasks)

    return measure


def celery_worker(bench: Bench, environment: Dict[str, object], level: str) -> Started:
    command = [bench.tools.python_with("celery"), "-m", "celery", "-A", "celery_tasks", "worker", "-P", "prefork"]
    command += ["-c", WORKERS, "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", level]
    return bench.stage.start(command, "celery", environment)


def application(task: str) -> Callable[[Bench, Size], Value]:
    """Celery's application, filled by its producers, and worked by ours."""

    def measure(bench: Bench, size: Size) -> Value:
        python, folder = bench.tools.python_with("celery"), bench.stage.subfolder("records")
        environment = bench.broker_environment(folder)
        fill(bench, python, "celery_tasks", task, size, environment)
        queue = str(environment["COMPARE_QUEUE"])
        master = bench.master(bench.broker().uri, queue, "celery", WORKERS, folder, "--halt-when-empty")
        bench.stage.finish(master)
        record = records(folder)
        if record.tasks != size.tasks:
            raise Failed(f"asynctask: {record.tasks} tasks were done, not {size.tasks}")
        return record.rate()

    return measure


def started(works: Callable[[Bench, Dict[str, object], Path], Tuple[Started, str]]) -> Callable[[Bench, Size], Value]:
    """How long a task takes from its `delay()` to its first line, where there is nothing else to do."""

    def measure(bench: Bench, size: Size) -> Value:
        python, folder = bench.tools.python_with("celery"), bench.stage.subfolder("records")
        environment = bench.broker_environment(folder)
        fill(bench, python, "celery_tasks", "noop", Size(1, 100), environment)
        worker, ready = works(bench, environment, folder)
        wait_until(worker, 1, lambda: int(ready in worker.output()), "workers")
        wait_until(worker, 1, lambda: records(folder).tasks, "tasks")

        def lines() -> List[str]:
            return "".join(path.read_text() for path in folder.glob("*.starts")).splitlines()

        try:
            call = f"import celery_tasks; celery_tasks.pace({size.tasks})"
            bench.stage.run([python, "-c", call], "celery-pace", environment)
            wait_until(worker, size.tasks, lambda: len(lines()), "tasks")
        finally:
            bench.stage.kill(worker)
        # The first ones find processes that have never done one.
        runs = sorted(tuple(map(int, line.split())) for line in lines())[size.tasks // 10 :]
        waits = [began - sent for sent, began in runs]
        return {"start_p50": mix.percentile(waits, 50), "start_p99": mix.percentile(waits, 99)}

    return measure


def by_celery(bench: Bench, environment: Dict[str, object], _folder: Path) -> Tuple[Started, str]:
    return celery_worker(bench, environment, "INFO"), " ready."


def by_asynctask(bench: Bench, environment: Dict[str, object], folder: Path) -> Tuple[Started, str]:
    queue = str(environment["COMPARE_QUEUE"])
    return bench.master(bench.broker().uri, queue, "celery", WORKERS, folder), "Launching"


def celery_crate(bench: Bench, size: Size) -> Value:
    """One process with two threads, late acknowledgement, a prefetch of 64."""
    program, folder = bench.tools.celery_crate(), bench.stage.subfolder("records")
    environment = bench.broker_environment(folder)
    bench.stage.run([program, "fill", *size], "celery-crate-fill", environment)
    worker = bench.stage.start([program, "work"], "celery-crate", environment)
    return bench.drained(worker, folder, size.tasks)


def dramatiq(actor: str) -> Callable[[Bench, Size], Value]:
    """Its defaults, with 2 processes of 8 threads."""

    def measure(bench: Bench, size: Size) -> Value:
        python, folder = bench.tools.python_with("dramatiq"), bench.stage.subfolder("records")
        environment = bench.broker_environment(folder)
        fill(bench, python, "dramatiq_tasks", actor, size, environment)
        command = [python, "-m", "dramatiq", "dramatiq_tasks", "-p", WORKERS, "-t", 8]
        return bench.drained(bench.stage.start(command, "dramatiq", environment), folder, size.tasks)

    return measure


def huey(bench: Bench, size: Size) -> Value:
    """Its SQLite storage, 2 worker processes."""
    python, folder = bench.tools.python_with("huey"), bench.stage.subfolder("records")
    file = bench.stage.subfolder("huey") / "huey.db"
    environment = {**bench.environment(folder), "COMPARE_FILE": file}
    fill(bench, python, "huey_tasks", "noop", size, environment)
    command = [python.parent / "huey_consumer", "huey_tasks.huey", "-k", "process", "-w", WORKERS, "-q"]
    return bench.drained(bench.stage.start(command, "huey", environment), folder, size.tasks)


def mixed(transport: str, kind: str) -> Callable[[Bench, Size], Value]:
    """Short tasks in bursts beside long ones; `Size.tasks` is the number of bursts."""

    def measure(bench: Bench, size: Size) -> Value:
        uri, queue, folder = place(bench, transport), bench.queue(), bench.stage.subfolder("records")
        master = bench.master(uri, queue, kind, MIX_WORKERS, folder)
        wait_until(master, MIX_WORKERS, lambda: master.output().count("Starting; queue="), "workers")
        count = int(bench.step("mix", uri, queue, size.tasks))

        def lines() -> str:
            return "".join(path.read_text() for path in folder.glob("*.mix"))

        try:
            wait_until(master, count, lambda: lines().count("\n"), "tasks")
        finally:
            bench.stage.stop(master)
        return mix.waits(mix.parsed(lines()), MIX_WORKERS)

    return measure


RUST, PYTHON = "asynctask, Rust kind", "asynctask, Python kind"
APPLICATION = "asynctask, Celery application"
CELERY, DRAMATIQ = "Celery prefork, late ack, prefetch 64", "Dramatiq 2 × 8"

GROUPS: Tuple[Group, ...] = (
    Group(
        "amqp",
        "RabbitMQ, no-op tasks of 100 B, 2 workers",
        100,
        ("bare-batched", "bare-each", "celery", "dramatiq"),
        (
            Contestant("bare-batched", f"bare lapin, acks in {ACKS}s", 100_000, 30_000, bare_amqp(ACKS)),
            Contestant("bare-each", "bare lapin, an ack each", 60_000, 20_000, bare_amqp(1)),
            Contestant("rust", RUST, 100_000, 30_000, ours("amqp", "rust/noop")),
            Contestant("python", PYTHON, 60_000, 20_000, ours("amqp", "python/noop")),
            Contestant("application", APPLICATION, 30_000, 10_000, application("noop")),
            Contestant("celery", CELERY, 10_000, 3_000, celery("noop")),
            Contestant("celery-crate", "celery crate for Rust, 2 threads, late ack", 20_000, 5_000, celery_crate),
            Contestant("dramatiq", DRAMATIQ, 20_000, 5_000, dramatiq("noop")),
        ),
    ),
    Group(
        "sqlite",
        "SQLite, no-op tasks of 100 B, 2 workers",
        100,
        ("bare", "huey"),
        (
            Contestant("bare", f"bare rusqlite, groups of {ACKS}", 100_000, 30_000, bare_sqlite),
            Contestant("rust", RUST, 100_000, 30_000, ours("sqlite", "rust/noop")),
            Contestant("python", PYTHON, 60_000, 20_000, ours("sqlite", "python/noop")),
            Contestant("huey", "huey, 2 worker processes", 20_000, 5_000, huey),
        ),
    ),
    Group(
        "busy",
        "RabbitMQ, tasks that use the processor for 1 ms, 2 workers",
        100,
        ("celery", "dramatiq"),
        (
            Contestant("rust", RUST, 6_000, 2_000, ours("amqp", "rust/busy")),
            Contestant("python", PYTHON, 6_000, 2_000, ours("amqp", "python/busy")),
            Contestant("application", APPLICATION, 6_000, 2_000, application("busy")),
            Contestant("celery", CELERY, 5_000, 1_500, celery("busy")),
            Contestant("dramatiq", DRAMATIQ, 5_000, 1_500, dramatiq("busy")),
        ),
    ),
    Group(
        "payload",
        "RabbitMQ, no-op tasks of 10 KB, 2 workers",
        10_000,
        ("bare-batched", "celery"),
        (
            Contestant("bare-batched", f"bare lapin, acks in {ACKS}s", 30_000, 10_000, bare_amqp(ACKS)),
            Contestant("rust", RUST, 30_000, 10_000, ours("amqp", "rust/noop")),
            Contestant("python", PYTHON, 20_000, 10_000, ours("amqp", "python/noop")),
            Contestant("celery", CELERY, 8_000, 2_000, celery("noop")),
        ),
    ),
    Group(
        "idle",
        "A Celery application with nothing to do, 2 workers: from delay() to the task's first line, in ms",
        0,
        (),
        (
            Contestant("application", APPLICATION, 300, 100, started(by_asynctask)),
            Contestant("celery", CELERY, 300, 100, started(by_celery)),
        ),
    ),
    Group(
        "mix",
        "1 ms tasks in bursts of 40 beside 2 s tasks that keep 2 of 4 workers busy: wait of the short ones, in ms",
        0,
        (),
        (
            Contestant("amqp-rust", f"RabbitMQ, {RUST}", 50, 30, mixed("amqp", "rust/mixed")),
            Contestant("amqp-python", f"RabbitMQ, {PYTHON}", 50, 30, mixed("amqp", "python/mixed")),
            Contestant("sqlite-rust", f"SQLite, {RUST}", 50, 30, mixed("sqlite", "rust/mixed")),
            Contestant("sqlite-python", f"SQLite, {PYTHON}", 50, 30, mixed("sqlite", "python/mixed")),
        ),
    ),
)


def chosen(names: List[str]) -> List[Tuple[Group, Contestant]]:
    """All contestants, or those that one of the names means: of a group, of one in it (`amqp/celery`), of one in all
    groups.

    Raises `ValueError` for a name that means none."""
    every = [(group, contestant) for group in GROUPS for contestant in group.contestants]
    meant: Dict[str, List[Tuple[Group, Contestant]]] = {}
    for group, contestant in every:
        for name in {group.name, contestant.name, f"{group.name}/{contestant.name}"}:
            meant.setdefault(name, []).append((group, contestant))
    for name in names:
        if name not in meant:
            raise ValueError(name)
    wanted = [one for name in names for one in meant[name]] if names else every
    return [one for one in every if one in wanted]
