"""Runs Celery's own integration tests against the workers of this project in the place of Celery's.

    run.py [--program FILE] [--short] [--worker asynctask|celery] [-k EXPRESSION] [TEST_FILE …]

Everything it needs it makes itself: a Python environment and the sources of Celery under the target folder (kept for the next
time), a RabbitMQ and a Redis of its own on free ports, and a master with workers of `worker_app`, which the tests' own fixture
starts (`fixture.py`), because the node has to have the name that the tests ask for. All of it ends with the program.

It prints a table of what passed and failed. A failure that `known.txt` has is printed with its reason there; any other one
makes the exit code 1. With `--short`, the tests of `short.txt` alone, in about a minute; with `--worker celery`, Celery's own
prefork worker, which shows what the tests say without us. 69: something it needs is not there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Dict, List, Optional, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "tests/bench"), str(HERE.parent)]

import environment  # noqa: E402
from comparison.broker import Broker, _connects, _free_ports  # noqa: E402
from comparison.stage import Failed, Stage, wait_until  # noqa: E402

RELEASE = "5.7.0"
FILES = ["test_tasks", "test_canvas", "test_group_chains", "test_serialization", "test_inspect"]
TIME_LIMIT = 300
"""Seconds for each test, as the tests themselves have it: the longest takes 150."""

UNAVAILABLE = 69


def main() -> int:
    options = _options()
    started = time.monotonic()
    try:
        python = _python(options.folder)
        sources = _sources(python, options.folder)
        with Stage() as stage:
            code = _told(_run(stage, options, python, sources), options)
    except Failed as failed:
        print(f"not run: {failed}", file=sys.stderr)
        return UNAVAILABLE
    print(f"{time.monotonic() - started:.0f} s")
    return code


def _target() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Celery's own integration tests against our workers.")
    parser.add_argument(
        "--program", type=Path, help="the master (default: the debug build, which is built if it is absent)"
    )
    parser.add_argument(
        "--folder", type=Path, default=_target() / "tmp", help="where the environment is kept (default %(default)s)"
    )
    parser.add_argument("--short", action="store_true", help="the tests of short.txt alone")
    parser.add_argument("--worker", choices=["asynctask", "celery"], default="asynctask")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where the log of the tests and of the master is left"
    )
    parser.add_argument("-k", dest="expression", help="only tests that match, as for pytest")
    parser.add_argument("files", nargs="*", default=FILES, help=f"of {', '.join(FILES)}")
    return parser.parse_args()


def _python(folder: Path) -> Path:
    """The Python of the environment that the tests run in."""
    folder.mkdir(parents=True, exist_ok=True)
    environment.REQUIREMENTS = HERE / "requirements.txt"
    return environment.made(folder)


def _sources(python: Path, folder: Path) -> Path:
    """The source distribution of Celery, of which `t/` is used alone."""
    sources = folder / f"celery-{RELEASE}"
    if not (sources / "t/integration/conftest.py").exists():
        download = [python, "-m", "pip", "download", "--disable-pip-version-check", "-q", "--no-deps"]
        command = [*download, "--no-binary", ":all:", f"celery=={RELEASE}", "-d", folder]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        archive = folder / f"celery-{RELEASE}.tar.gz"
        if not archive.exists():
            lines = ended.stderr.strip().splitlines()
            raise Failed(f"the sources of celery {RELEASE} cannot be had: {lines[-1] if lines else ended.returncode}")
        with tarfile.open(archive) as opened:
            wanted = [member for member in opened.getmembers() if re.match(r"celery-[^/]+/t/", member.name)]
            opened.extractall(folder, members=wanted)
    return sources


def _run(stage: Stage, options: argparse.Namespace, python: Path, sources: Path) -> Path:
    """Runs the tests; gives the file of their results."""
    program = None if options.worker == "celery" else _program(options.program)
    broker, redis_port = Broker(stage), _redis(stage)
    folder = stage.subfolder("tests")
    shutil.copytree(sources / "t", folder / "t")
    conftest = folder / "t/integration/conftest.py"
    if program is not None:
        conftest.write_text(conftest.read_text() + "\n\n" + (HERE / "fixture.py").read_text())
    (folder / "pytest.ini").write_text(
        "[pytest]\npython_classes = test_*\nmarkers =\n    flaky\n    timeout\n    amqp\nfilterwarnings =\n    ignore\n"
    )
    report = folder / "report.xml"
    tests = [f"t/integration/{name}.py" for name in options.files]
    if options.short:
        lines = (HERE / "short.txt").read_text().splitlines()
        tests = [f"t/integration/{line}" for line in lines if line and not line.startswith("#")]
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "celery.contrib.pytest",
    ]
    command += ["-o", "timeout_func_only=true", f"--junitxml={report}", *tests]
    command += ["-k", options.expression] if options.expression else []
    variables: Dict[str, object] = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "examples/python")]),
        "TEST_BROKER": broker.uri,
        "TEST_BACKEND": f"redis://127.0.0.1:{redis_port}/0",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": redis_port,
        # Tests start `celery` by its name.
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
        "C_FORCE_ROOT": "1",
        "SUITE_PROGRAM": program or "",
        "SUITE_FOLDER": HERE,
        "SUITE_TIME_LIMIT": TIME_LIMIT,
        "SUITE_LOG": folder / "master.log",
    }
    tests_run = stage.start(command, "pytest", variables, folder)
    tests_run.process.wait()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "tests.log").write_text(tests_run.output())
        for name in ("master.log", "report.xml"):
            if (folder / name).exists():
                shutil.copy(folder / name, options.keep)
    if not report.exists():
        raise tests_run.failed("said nothing of its tests")
    return report


def _program(given: Optional[Path]) -> Path:
    program = given or _target() / "debug/asynctask"
    if given is None and not program.exists():
        subprocess.run(["cargo", "build", "--quiet", "--bin", "asynctask"], cwd=ROOT, check=False)
    if not program.exists():
        raise Failed(f"{program} is not there")
    return program.resolve()


def _redis(stage: Stage) -> int:
    server = shutil.which("redis-server")
    if server is None:
        raise Failed("no redis-server is installed (Debian: apt-get install redis-server)")
    port = _free_ports(1)[0]
    command = [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    redis = stage.start(command, "redis")
    wait_until(redis, 1, lambda: int(_connects(port)), "connections to it")
    return port


def _told(report: Path, options: argparse.Namespace) -> int:
    """Prints the table; 1 if a test failed of which nothing is known."""
    known = _known()
    counts: Dict[str, Dict[str, int]] = {}
    failed: List[Tuple[str, str, str]] = []
    for case in xml.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").split(".")[2] if case.get("classname", "").count(".") >= 2 else "?"
        name = f"{file}::{case.get('name')}"
        bad = [part for part in case if part.tag in ("failure", "error")]
        how = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        # A test with subtests has a case for each that failed.
        reason = _reason(known, name)
        if how == "failed" and reason is not None:
            how = "known"
        per_file = counts.setdefault(file, {})
        per_file[how] = per_file.get(how, 0) + 1
        if bad:
            message = " ".join((bad[0].get("message") or "").split())[:160]
            failed.append((name, reason or "", message))
    width = max([len(file) for file in counts] + [4])
    print(f"{'':{width}}  passed  known failures  failed  skipped")
    for file, per_file in sorted(counts.items()):
        numbers = [per_file.get(how, 0) for how in ("passed", "known", "failed", "skipped")]
        print(f"{file:{width}}  {numbers[0]:6}  {numbers[1]:14}  {numbers[2]:6}  {numbers[3]:7}")
    for name, reason, message in sorted(failed):
        print(f"{'known ' if reason else 'FAILED'}  {name}: {reason or message}")
    is_ours = options.worker == "asynctask"
    return 1 if is_ours and any(not reason for _, reason, _ in failed) else 0


def _known() -> Dict[str, str]:
    """Names of tests, perhaps with `*` at their end, and why they fail."""
    known: Dict[str, str] = {}
    for line in (HERE / "known.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            known[name] = reason
    return known


def _reason(known: Dict[str, str], name: str) -> Optional[str]:
    plain = name.partition("[")[0]
    patterns = [pattern for pattern in known if pattern.endswith("*") and name.startswith(pattern[:-1])]
    return known.get(name) or known.get(plain) or (known[patterns[0]] if patterns else None)


if __name__ == "__main__":
    sys.exit(main())
