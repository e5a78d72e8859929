"""A minimal worker in another language: frames on a socket, nothing but the standard library.

Moods: `plain`; `stubborn` says that it got SIGTERM and goes on; `deaf` ignores SIGTERM and is never told to halt,
because it does not listen; `fan` submits two follow-ups to the queue `bar` with each task; `eats` takes 500 MB.
"""

import json
import os
import signal
import socket
import sys
import time

mood = sys.argv[1]
if mood == "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: print("PYTHON got SIGTERM", flush=True))
if mood == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))


def say(frame):
    frames.sendall(json.dumps(frame).encode() + b"\n")


say({"ready": {"protocol": 1, "name": "PythonWorker"}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        task = frame["task"]
        print("PYTHON begins", json.dumps(task["payload"]), flush=True)
        until = time.monotonic() + task["payload"].get("sleep_ms", 0) / 1000
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)
        if mood == "eats":
            len(b"x" * 500_000_000)
        done = {"id": task["id"]}
        if mood == "fan":
            number = task["payload"]["n"]
            done["submit"] = [{"queue": "bar", "payload": {"n": 2 * number + half}} for half in (0, 1)]
        say({"done": done})
    elif "ping" in frame:
        say({"pong": frame["ping"]})
    elif "halt" in frame and mood != "deaf":
        say({"bye": {}})
        break
