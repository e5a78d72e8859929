"""Of the comparison, all that needs no measuring. `cargo test --test commands compare` runs it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Callable, Dict, List, Optional
from unittest import mock
from xml.etree import ElementTree

from . import chart, contestants, mix, readme, table
from .run_file import Result, RunFile, Section, Spread, Value
from .stage import Failed, Interrupted, Stage, wait_until
from .tools import PROGRAMS, ROOT

MILLISECOND = 1_000_000


def result(name: str, *rates: float, absent: Optional[str] = None) -> Result:
    rounds: Dict[int, Value] = dict(enumerate(rates, 1))
    return Result(name, f"the {name} <one>", 1000, rounds, absent)


def a_run() -> RunFile:
    about = {"date": "2026-01-31", "cores": 2, "rounds": 3, "quick": False, "versions": {"RabbitMQ": "3.10.8"}}
    waits = {key: 10.0 * at for at, (_, key) in enumerate(table.WAITS, 1) if not key.startswith("start")}
    rates = [
        result("bare-batched", 100_000, 110_000, 60_000),
        result("rust", 80_000, 77_000, 54_000),
        result("celery", 4_000, 5_000, absent="it broke"),
        result("dramatiq", absent="no wheel"),
    ]
    mixed = Result("amqp-rust", "ours", 50, {1: waits, 2: {key: value + 2 for key, value in waits.items()}}, None)
    return RunFile(
        about,
        [
            Section("amqp", "RabbitMQ & no-op", ("bare-batched", "celery", "dramatiq"), rates),
            Section("mix", "waits", (), [mixed]),
        ],
    )


class Figures(unittest.TestCase):
    def test_a_ratio_is_taken_in_each_round(self) -> None:
        bare, rust, celery, dramatiq = a_run().groups[0].results
        self.assertEqual(rust.ratio(bare), Spread(0.8, 0.7, 0.9))
        # The quotient of the medians would be 0.77.
        self.assertEqual(rust.spread(), Spread(77_000, 54_000, 80_000))
        # Of the rounds that both have.
        self.assertEqual(rust.ratio(celery), Spread(17.7, 15.4, 20))
        self.assertIsNone(rust.ratio(dramatiq))

    def test_a_run_that_is_kept_is_the_same_run(self) -> None:
        self.assertEqual(RunFile.parsed(a_run().text()), a_run())

    def test_the_table_for_a_terminal(self) -> None:
        expected = """\
2026-01-31, 2 cores, RabbitMQ 3.10.8; 3 rounds in turn. Medians, with the least and the most; \
ratios are taken in each round.

RabbitMQ & no-op:

                         tasks/s       least – most      × bare, batched             × Celery
the bare-batched <one>   100,000   60,000 – 110,000                    –   23.5 (22.0 – 25.0)
the rust <one>            77,000    54,000 – 80,000   0.80 (0.70 – 0.90)   17.7 (15.4 – 20.0)
the celery <one>           4,500      4,000 – 5,000   0.04 (0.04 – 0.05)                    –

- the dramatiq <one>: absent: no wheel
- the celery <one>: 2 rounds alone: it broke

waits:

             waited p50        explained p50           waited p99        explained p99          over it p99
ours   11.0 (10.0 – 12.0)   21.0 (20.0 – 22.0)   31.0 (30.0 – 32.0)   41.0 (40.0 – 42.0)   51.0 (50.0 – 52.0)
"""
        # Columns of the mix are as wide as their cells.
        squeezed = [line.split() for line in table.plain(a_run()).splitlines()]
        self.assertEqual(squeezed, [line.split() for line in expected.splitlines()])

    def test_waits_have_the_columns_that_they_are_of(self) -> None:
        idle = Result("application", "ours", 300, {1: {"start_p50": 1.0, "start_p99": 2.5}}, None)
        run = RunFile(a_run().about, [Section("idle", "idle", (), [idle])])
        lines = table.markdown(run).splitlines()
        self.assertEqual(lines[4], "|  | started p50 | started p99 |")
        self.assertEqual(lines[6], "| ours | 1.00 (1.00 – 1.00) | 2.50 (2.50 – 2.50) |")

    def test_the_columns_of_a_table_stand_below_each_other(self) -> None:
        head, first, *_ = table.plain(a_run()).splitlines()[4:]
        self.assertEqual(head.index("tasks/s") + len("tasks/s"), first.index("100,000") + len("100,000"))

    def test_the_table_in_markdown(self) -> None:
        lines = table.markdown(a_run()).splitlines()
        self.assertEqual(lines[4], "|  | tasks/s | least – most | × bare, batched | × Celery |")
        self.assertEqual(lines[5], "| --- | ---: | ---: | ---: | ---: |")
        self.assertEqual(
            lines[7], "| the rust <one> | 77,000 | 54,000 – 80,000 | 0.80 (0.70 – 0.90) | 17.7 (15.4 – 20.0) |"
        )

    def test_the_chart_has_a_bar_for_each_rate(self) -> None:
        name = "{http://www.w3.org/2000/svg}"
        picture = ElementTree.fromstring(chart.svg(a_run()))
        bars = picture.findall(f"{name}rect")
        self.assertEqual([bar.get("class") for bar in bars], ["bare", "ours", "other"])
        bare, rust, _ = (float(bar.get("width", 0)) for bar in bars)
        self.assertAlmostEqual(rust / bare, 0.77, places=2)
        texts = [text.text for text in picture.findall(f"{name}text")]
        self.assertIn("the rust <one>", texts)
        self.assertIn("RabbitMQ & no-op: tasks/s", texts)


class Waits(unittest.TestCase):
    def run_of(self, sent: float, began: float, took: float, is_long: bool = False) -> mix.Run:
        sent, began, ended = sent * MILLISECOND, began * MILLISECOND, (began + took) * MILLISECOND
        return mix.Run(round(sent), round(began), round(ended), is_long)

    def test_what_the_queue_explains_is_not_charged(self) -> None:
        # Two workers, one of them busy for long: three short ones follow each other on the other.
        runs = [
            self.run_of(0, 0, 2000, is_long=True),
            self.run_of(1, 1, 10),
            self.run_of(2, 11, 10),
            self.run_of(3, 21, 10),
        ]
        waits = mix.waits(runs, 2)
        self.assertEqual((waits["wait_p50"], waits["explained_p50"]), (9, 9))
        self.assertEqual((waits["wait_p99"], waits["over_p99"]), (9, 0))

    def test_a_short_task_behind_a_long_one_is_charged_while_a_worker_is_free(self) -> None:
        runs = [self.run_of(0, 0, 2000, is_long=True), self.run_of(1, 2000, 10), self.run_of(2, 2010, 10)]
        waits = mix.waits(runs, 2)
        self.assertEqual(waits["explained_p99"], 0)
        self.assertEqual((waits["wait_p50"], waits["over_p50"]), (1999, 1999))

    def test_lines_of_the_kind_are_read(self) -> None:
        self.assertEqual(mix.parsed("1 2 3 0\n4 5 6 1\n"), [mix.Run(1, 2, 3, False), mix.Run(4, 5, 6, True)])


class Names(unittest.TestCase):
    def test_names_mean_groups_contestants_and_both(self) -> None:
        def names(*wanted: str) -> List[str]:
            return [f"{group.name}/{one.name}" for group, one in contestants.chosen(list(wanted))]

        self.assertEqual(names("sqlite"), ["sqlite/bare", "sqlite/rust", "sqlite/python", "sqlite/huey"])
        self.assertEqual(names("celery", "busy/rust"), ["amqp/celery", "busy/rust", "busy/celery", "payload/celery", "idle/celery"])
        self.assertEqual(len(names()), sum(len(group.contestants) for group in contestants.GROUPS))
        with self.assertRaisesRegex(ValueError, "nobody"):
            names("amqp", "nobody")

    def test_what_is_compared_with_is_measured(self) -> None:
        for group in contestants.GROUPS:
            self.assertLessEqual(set(group.baselines), {one.name for one in group.contestants})


class Records(unittest.TestCase):
    def test_threads_of_python_are_measured_together(self) -> None:
        sys.path.insert(0, str(PROGRAMS))
        self.addCleanup(sys.path.remove, str(PROGRAMS))
        import meter  # type: ignore[import-not-found]

        def work() -> None:
            for _ in range(2):
                meter.begin()
                meter.use_processor(1000)
                meter.end()

        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {contestants.RECORDS: folder}):
            self.assertEqual(contestants.records(Path(folder)).tasks, 0)
            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
                thread.join()
            record = contestants.records(Path(folder))
        self.assertEqual(record.tasks, 4)
        self.assertGreater(record.ended - record.began, 4000)
        self.assertEqual(contestants.Record(0, 2_000_000_000, 4).rate(), 2)


# A run that holds its folder and a process with a child; the line says that both are there.
HOLDER = """
import signal, sys
from comparison.stage import Interrupted, Stage, wait_until
try:
    with Stage() as stage:
        process = stage.start(["sh", "-c", 'exec 3>"$0"; sleep 600 & echo up; wait', sys.argv[1]], "holder")
        wait_until(process, 1, lambda: process.output().count("up"), "lines")
        print(stage.folder, flush=True)
        signal.pause()
except Interrupted as interrupted:
    sys.exit(128 + interrupted.number)
"""


class Ends(unittest.TestCase):
    def test_nothing_is_left_however_a_run_ends(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            with self.subTest(number=number), tempfile.TemporaryDirectory() as folder:
                pipe = Path(folder) / "pipe"
                os.mkfifo(pipe)
                command = [sys.executable, "-c", HOLDER, str(pipe)]
                run = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1], text=True)
                with pipe.open("rb") as held:
                    assert run.stdout is not None
                    with run.stdout:
                        stage = Path(run.stdout.readline().strip())
                        self.assertTrue(stage.is_dir())
                        run.send_signal(number)
                        # The end of both: of this program and the watchdog, and of all that it had started.
                        self.assertEqual(run.stdout.read(), "")
                    self.assertEqual(held.read(), b"")
                self.assertFalse(stage.exists())
                code = run.wait()
                self.assertEqual(code, -number if number == signal.SIGKILL else 128 + number)

    def test_what_ends_early_or_cannot_be_started_says_why(self) -> None:
        self.addCleanup(self.signals_as_before())
        with Stage() as stage:
            with self.assertRaisesRegex(Failed, "thing ended with 3: no luck"):
                stage.run(["sh", "-c", "echo no luck; exit 3"], "thing")
            with self.assertRaisesRegex(Failed, "thing ended with 0 after 1 of 2 tasks: bye"):
                process = stage.start(["echo", "bye"], "thing")
                process.process.wait()
                wait_until(process, 2, lambda: 1, "tasks")
            with self.assertRaisesRegex(Failed, "thing cannot be started: .*no-such-program"):
                stage.start(["no-such-program"], "thing")

    def test_a_signal_between_a_start_and_its_note_waits(self) -> None:
        self.addCleanup(self.signals_as_before())
        with self.assertRaises(Interrupted), Stage() as stage:
            stage._is_starting = True
            signal.raise_signal(signal.SIGTERM)
            # It is raised by the start's own end, when the process is noted.
            stage.start(["sleep", "600"], "thing")
        self.assertEqual(stage._running, {})

    def signals_as_before(self) -> Callable[[], object]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        return lambda: [signal.signal(number, handler) for number, handler in before.items()]


class Readme(unittest.TestCase):
    def test_only_what_is_between_the_marks_changes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "README.md"
            path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
            readme.renew(path, "| new |\n", Path(folder) / "bench" / "run.svg")
            expected = f"before\n{readme.BEGIN}\n![Tasks per second](bench/run.svg)\n\n| new |\n{readme.END}\nafter\n"
            self.assertEqual(path.read_text(), expected)
            path.write_text("no marks\n")
            with self.assertRaisesRegex(Failed, "no marks"):
                readme.renew(path, "| new |\n", None)
            self.assertEqual(path.read_text(), "no marks\n")

    def test_the_projects_tables_are_those_of_its_run_file(self) -> None:
        kept = ROOT / "tests" / "bench" / "run.json"
        text = (ROOT / "README.md").read_text()
        shown = text.partition(readme.BEGIN)[2].partition(readme.END)[0]
        self.assertTrue(shown, "README.md has the marks of the comparison")
        if kept.exists():
            self.assertTrue(shown.endswith(f"\n{table.markdown(RunFile.load(kept))}"), "see tests/bench/README.md")
            self.assertFalse(json.loads(kept.read_text())["about"]["quick"], "a look is no measurement")
        else:
            self.assertNotIn("|", shown, "a table without the run that it is made of")


if __name__ == "__main__":
    unittest.main()
