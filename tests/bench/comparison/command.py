"""The command line of the comparison: what is run in which order, and where the figures go."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from pathlib import Path
from typing import Dict, List, NoReturn, Optional, Tuple

from . import chart, contestants, readme, table
from .contestants import Bench, Contestant, Size
from .run_file import Result, RunFile, Section, Value
from .stage import Failed, Interrupted, Stage
from .tools import CRATE, PACKAGES, Tools

USAGE = 64
"""The exit code of a wrong command line, as this project's own commands have it."""

ROUNDS = 5
QUICK_ROUNDS = 2

EPILOG = """\
names:
{names}
  A name alone is taken in all groups: --only rust,celery.

examples:
  tests/bench/compare --quick --only amqp              a look at RabbitMQ, 2 rounds
  tests/bench/compare --json run.json --svg run.svg    all of it, kept and drawn
  tests/bench/compare --from run.json --markdown       the tables of a run that was kept

Nothing else should run meanwhile. The first run builds and installs; what cannot be installed is told as absent.
Ctrl-C ends everything that was started. TMPDIR says on which disk the SQLite files and the broker's are.
"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"error: {message}\nhint: {self.prog} --help\n")


def main(arguments: List[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        chosen = contestants.chosen([name for name in options.only.split(",") if name])
    except ValueError as error:
        parser.error(f'--only: nothing is called "{error}"')
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    try:
        if options.source:
            run = RunFile.load(options.source)
        else:
            with Stage() as stage:
                run = _measured(stage, chosen, rounds, options.quick)
        _keep(run, options)
    except Interrupted as interrupted:
        print("interrupted: all that was started has ended", file=sys.stderr)
        return 128 + interrupted.number
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _keep(run: RunFile, options: argparse.Namespace) -> None:
    print(table.markdown(run) if options.markdown else table.plain(run), end="")
    if options.json:
        options.json.write_text(run.text())
    if options.svg:
        options.svg.write_text(chart.svg(run))
    if options.readme:
        readme.renew(options.readme, table.markdown(run), options.svg)


def _parser() -> Parser:
    names = "\n".join(
        f"  {group.name:8} {', '.join(contestant.name for contestant in group.contestants)}"
        for group in contestants.GROUPS
    )
    parser = Parser(
        prog="tests/bench/compare",
        description="Drains queues with bare loops, with asynctask and with other systems, in turn; compares their rates.",
        epilog=EPILOG.format(names=names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"fewer tasks and {QUICK_ROUNDS} rounds: a look, no measurement"
    )
    parser.add_argument(
        "--only", metavar="NAME,…", default="", help="groups, or contestants: amqp, celery, amqp/celery"
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_positive, help=f"each contestant is measured so often ({ROUNDS})"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the figures of each round")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw a bar chart")
    parser.add_argument(
        "--from", metavar="FILE", type=Path, dest="source", help="measure nothing: take the figures of a --json"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    parser.add_argument(
        "--readme", metavar="FILE", type=Path, help="renew the tables in this file, between its two marks"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text}")
    return int(text)


def _measured(stage: Stage, chosen: List[Tuple[contestants.Group, Contestant]], rounds: int, quick: bool) -> RunFile:
    _say("building (the first time takes minutes)")
    bench = Bench(stage, Tools(stage))
    values: Dict[str, Dict[int, Value]] = {}
    absent: Dict[str, str] = {}
    for number in range(1, rounds + 1):
        for group, contestant in chosen:
            name = f"{group.name}/{contestant.name}"
            if name in absent:
                continue
            began = time.monotonic()
            size = Size(contestant.quick if quick else contestant.tasks, group.length)
            try:
                value = contestant.measure(bench, size)
            except Failed as failure:
                absent[name] = str(failure)
                _say(f"round {number}/{rounds}  {name:22} absent: {failure}")
                continue
            values.setdefault(name, {})[number] = value
            _say(f"round {number}/{rounds}  {name:22} {_shown(value):24} ({time.monotonic() - began:.0f} s)")
    return RunFile(_about(bench, chosen, rounds, quick), _groups(chosen, quick, values, absent))


def _groups(
    chosen: List[Tuple[contestants.Group, Contestant]],
    quick: bool,
    values: Dict[str, Dict[int, Value]],
    absent: Dict[str, str],
) -> List[Section]:
    groups: List[Section] = []
    for group, contestant in chosen:
        if not groups or groups[-1].name != group.name:
            groups.append(Section(group.name, group.title, group.baselines, []))
        name = f"{group.name}/{contestant.name}"
        tasks = contestant.quick if quick else contestant.tasks
        groups[-1].results.append(
            Result(contestant.name, contestant.label, tasks, values.get(name, {}), absent.get(name))
        )
    return groups


def _about(
    bench: Bench, chosen: List[Tuple[contestants.Group, Contestant]], rounds: int, quick: bool
) -> Dict[str, object]:
    versions = {"Python": platform.python_version()}
    broker: Optional[str] = bench.broker_version()
    if broker is not None:
        versions["RabbitMQ"] = broker
    used = {contestant.name for _, contestant in chosen}
    versions.update((name, text.split("==")[1]) for name, text in PACKAGES.items() if name in used)
    if "celery-crate" in used:
        versions["celery crate"] = CRATE
    today = datetime.date.today().isoformat()
    return {"date": today, "cores": os.cpu_count(), "rounds": rounds, "quick": quick, "versions": versions}


def _shown(value: Value) -> str:
    if isinstance(value, dict) and "start_p50" in value:
        return f"started p50 {value['start_p50']:.2f} ms, p99 {value['start_p99']:.2f}"
    if isinstance(value, dict):
        return f"p99 {value['wait_p99']:.1f} ms, {value['over_p99']:.1f} over"
    return f"{value:,.0f} tasks/s"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
