"""A worker that ends as its task says: done, in error, killed by a signal, or not at all.

A payload may have `say` (printed first), `percent` and `note` (told as progress), `seconds` (how long it takes), and `then`: `error`
and `failed` with `error` and `detail`, or the name of a signal that ends the process.
"""

import json
import os
import signal
import socket
import time

frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))


def say(frame):
    frames.sendall(json.dumps(frame).encode() + b"\n")


def end(task, payload):
    if "say" in payload:
        print(payload["say"], flush=True)
    if "percent" in payload:
        say({"progress": {"id": task, "percent": payload["percent"], "note": payload.get("note", "")}})
    time.sleep(payload.get("seconds", 0))
    then = payload.get("then", "done")
    if then in ("error", "failed"):
        say({then: {"id": task, "error": payload.get("error", ""), "detail": payload.get("detail", "")}})
    elif then.startswith("SIG"):
        signal.signal(getattr(signal, then), signal.SIG_DFL) if then != "SIGKILL" else None
        os.kill(os.getpid(), getattr(signal, then))
        signal.pause()
    else:
        say({"done": {"id": task}})


say({"ready": {"protocol": 1, "name": "shop"}})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        payload = frame["task"]["payload"]
        end(frame["task"]["id"], payload if isinstance(payload, dict) else {})
    elif "ping" in frame:
        say({"pong": frame["ping"]})
    elif "halt" in frame:
        say({"bye": {}})
        break
