"""The folder and the processes of a run. Both are gone when it ends, also by a signal or a kill.

Each process leads a session of its own, so that it ends together with what it has started, and so that a Ctrl-C of
the terminal reaches this program alone. A watchdog (`sh`) knows the process groups; when its input closes, however
this program has ended, it kills what is left and removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Callable, Dict, List, Optional

STEP = 0.05
"""Seconds between two looks at what is waited for."""

PATIENCE = 60.0
"""Seconds in which something has to become of what is waited for."""

WATCHDOG = """
while read -r line; do groups=$line; done
for group in $groups; do kill -9 -"$group" 2>/dev/null; done
rm -rf "$0" || { sleep 1; rm -rf "$0"; }
"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """A measurement came to nothing; the text says why. The others go on."""


class Interrupted(BaseException):
    """A signal asks for the end of the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Started:
    """A process of this run, its output in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", name: str, log: Path) -> None:
        self.process = process
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def failed(self, what: str) -> Failed:
        """With the last line of its output, which mostly says why."""
        lines = [line.strip() for line in self.output().splitlines() if line.strip()]
        return Failed(f"{self.name} {what}: {lines[-1]}" if lines else f"{self.name} {what}")


class Stage:
    """Use it in a `with`."""

    def __init__(self) -> None:
        self.folder = Path()
        self._running: Dict[int, Started] = {}
        self._made = 0
        self._is_starting = False
        self._signal: Optional[int] = None

    def __enter__(self) -> "Stage":
        for number in SIGNALS:
            signal.signal(number, self._signalled)
        self._is_starting = True
        self.folder = Path(tempfile.mkdtemp(prefix="asynctask-compare-"))
        self._watchdog = subprocess.Popen(
            ["sh", "-c", WATCHDOG, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._raise_signal()
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for started in list(self._running.values()):
            self.kill(started)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def subfolder(self, name: str) -> Path:
        """A new folder."""
        self._made += 1
        path = self.folder / f"{self._made}-{name}"
        path.mkdir()
        return path

    def start(
        self,
        command: Sequence[object],
        name: str,
        environment: Optional[Mapping[str, object]] = None,
        folder: Optional[Path] = None,
    ) -> Started:
        """Starts a program in `folder` (a new one), with more in its environment."""
        folder = folder or self.subfolder(name)
        log = self.folder / f"{name}-{self._made}.log"
        more = {key: str(value) for key, value in (environment or {}).items()}
        # A signal that came between the start and the note of it would leave the process behind.
        self._is_starting = True
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env={**os.environ, **more},
                    start_new_session=True,
                )
            started = Started(process, name, log)
            self._running[process.pid] = started
            self._tell_watchdog()
        except OSError as error:
            raise Failed(f"{name} cannot be started: {error}") from error
        finally:
            self._raise_signal()
        return started

    def run(
        self,
        command: Sequence[object],
        name: str,
        environment: Optional[Mapping[str, object]] = None,
        patience: float = 600,
    ) -> str:
        """Runs a program to its end and gives what it printed."""
        return self.finish(self.start(command, name, environment), patience)

    def finish(self, started: Started, patience: float = 600) -> str:
        try:
            code = started.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise started.failed(f"did not end within {patience:.0f} s") from None
        finally:
            self.kill(started)
        if code != 0:
            raise started.failed(f"ended with {code}")
        return started.output()

    def kill(self, started: Started) -> None:
        """Ends a program and all that it has started in its group; one that has ended leaves a group, too."""
        try:
            os.killpg(started.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        started.process.wait()
        self._running.pop(started.pid, None)
        self._tell_watchdog()

    def stop(self, started: Started) -> None:
        """Asks a program to end, and insists after a while."""
        started.process.terminate()
        try:
            started.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self.kill(started)

    def _tell_watchdog(self) -> None:
        groups: List[str] = [str(pid) for pid in self._running]
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write((" ".join(groups) + "\n").encode())
        self._watchdog.stdin.flush()

    def _signalled(self, number: int, _frame: Optional[FrameType]) -> None:
        if self._is_starting:
            self._signal = number
        else:
            raise Interrupted(number)

    def _raise_signal(self) -> None:
        self._is_starting = False
        number, self._signal = self._signal, None
        if number is not None:
            raise Interrupted(number)


def wait_until(started: Started, wanted: int, look: Callable[[], int], what: str) -> None:
    """Waits until `look` gives `wanted` or more; it must give another number within `PATIENCE`, and the process must
    live."""
    last, limit = -1, 0.0
    while True:
        ended = started.process.poll()
        seen = look()
        if seen >= wanted:
            return
        if ended is not None:
            raise started.failed(f"ended with {ended} after {seen} of {wanted} {what}")
        if seen != last:
            last, limit = seen, time.monotonic() + PATIENCE
        elif time.monotonic() > limit:
            raise started.failed(f"got stuck after {seen} of {wanted} {what}")
        time.sleep(STEP)
