"""Makes the Python environment of the tests of Celery applications, once, and prints where its Python is.

    environment.py FOLDER

It lies in FOLDER under a name that has the version of Python and a sum of what is installed, so another list is another
environment. Several programs may ask at once: one makes it, the others wait. Where it cannot be made (no venv, no pip, no
network), the reason is told on stderr, and the exit code is 69.
"""

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().with_name("requirements.txt")
UNAVAILABLE = 69
OLDEST = (3, 10)
"""Django of the list needs it."""


def made(folder: Path) -> Path:
    """The environment's Python."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    environment = folder / f"celery-python{version}-{digest}"
    environment.mkdir(parents=True, exist_ok=True)
    python = environment / "bin" / "python"
    with (folder / "celery-environment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last: an environment without it was interrupted while it was made.
        is_made = environment / "made"
        if not is_made.exists():
            run([sys.executable, "-m", "venv", "--clear", environment])
            # A machine without a network is to be told from a slow one soon.
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
            run([*pip, "-q", "-r", REQUIREMENTS])
            is_made.touch()
    return python


def run(command: "list[object]") -> None:
    ended = subprocess.run([str(word) for word in command], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if ended.returncode != 0:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        fail(f"{command[1]} {command[2]} failed: {lines[-1] if lines else ended.returncode}")


def fail(why: str) -> None:
    print(why, file=sys.stderr)
    sys.exit(UNAVAILABLE)


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        fail(f"Python is {sys.version_info[0]}.{sys.version_info[1]}, and {OLDEST[0]}.{OLDEST[1]} is needed")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        fail("this Python has no venv (Debian: apt-get install python3-venv)")
    print(made(Path(sys.argv[1])))
