"""What a run needs and builds first: this project's bench, a Python environment with the other systems, and the
`celery` crate.

All are kept in the target folder of cargo, so a second run begins at once. What cannot be installed is told with its
reason by the contestants that need it; the others run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Callable, Dict, Optional

from .stage import Failed, Stage

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).resolve().parent / "programs"
MODULE = ROOT / "examples" / "python"

# Fixed, so that figures of two runs are comparable; what pip installs beside them is not.
PACKAGES = {
    "celery": "celery==5.7.0",
    "dramatiq": "dramatiq[rabbitmq]==2.2.1",
    "huey": "huey==3.5.4",
}

CRATE = "0.5.5"
"""Version of the `celery` crate."""

MANIFEST = f"""\
[package]
name = "celery-crate"
version = "0.0.0"
edition = "2021"
publish = false

# What its macro writes names the last two.
[dependencies]
celery = "={CRATE}"
nix = {{ version = "0.31", features = ["time"] }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
async-trait = "0.1"
serde = {{ version = "1", features = ["derive"] }}

[workspace]
"""


class Tools:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.bench = self._built()
        # …/release/deps/drain-0123456789abcdef
        self._folder = self.bench.parents[2] / "compare"
        self._failures: Dict[str, str] = {}

    def _built(self) -> Path:
        """`tests/bench/drain.rs`, built as `cargo bench` would build it."""
        command = ["cargo", "build", "--release", "--bench", "drain", "--message-format", "json-render-diagnostics"]
        output = self._stage.finish(self._stage.start(command, "cargo", folder=ROOT), patience=3600)
        path: Optional[str] = None
        for line in output.splitlines():
            if line.startswith("{"):
                message = json.loads(line)
                if message.get("executable") and message["target"]["name"] == "drain":
                    path = message["executable"]
        if path is None:
            raise Failed("cargo names no executable of the bench")
        return Path(path)

    def python_with(self, name: str) -> Path:
        """The environment's Python, with one of `PACKAGES` installed. One that failed is not tried again in this
        run."""
        return self._once(name, lambda: self._installed(name))

    def celery_crate(self) -> Path:
        """A worker with the `celery` crate, which this project does not depend on: a package of its own."""
        return self._once("celery-crate", self._crate)

    def _once(self, name: str, make: Callable[[], Path]) -> Path:
        if name in self._failures:
            raise Failed(self._failures[name])
        try:
            return make()
        except Failed as failure:
            self._failures[name] = str(failure)
            raise

    def _crate(self) -> Path:
        folder = self._folder / "celery-crate"
        (folder / "src").mkdir(parents=True, exist_ok=True)
        for path, text in (
            (folder / "Cargo.toml", MANIFEST),
            (folder / "src" / "main.rs", (PROGRAMS / "celery_crate.rs").read_text()),
        ):
            # Cargo builds again what is newer than its last build.
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        # Without what the caller's environment may ask for its own builds: it would be built again with another.
        environment = {"CARGO_TARGET_DIR": folder / "target", "CARGO_PROFILE_RELEASE_DEBUG": "false"}
        command = ["cargo", "build", "--release", "-q"]
        self._stage.finish(self._stage.start(command, "cargo-celery-crate", environment, folder), patience=3600)
        return folder / "target" / "release" / "celery-crate"

    def _installed(self, name: str) -> Path:
        folder = self._folder / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        python = folder / "bin" / "python"
        # Written last: an environment without it was interrupted while it was made.
        is_made = folder / "made"
        if not is_made.exists():
            self._stage.run([sys.executable, "-m", "venv", "--clear", folder], "venv")
            is_made.touch()
        is_installed = folder / f"installed {PACKAGES[name]}"
        if not is_installed.exists():
            self._stage.run(
                [python, "-m", "pip", "install", "--disable-pip-version-check", "-q", PACKAGES[name]], "pip"
            )
            is_installed.touch()
        return python
