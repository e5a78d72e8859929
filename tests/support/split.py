"""A worker that turns one task into many, and writes down each of the many with its id. It knows nothing but the frames."""

import json
import os
import socket
import sys

frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
out = os.open(os.environ["DEMO_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def say(**frame):
    frames.sendall(json.dumps(frame, separators=(",", ":")).encode() + b"\n")


say(ready={"protocol": 1})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "halt" in frame:
        say(bye={})
        sys.exit(0)
    if "task" not in frame:
        continue
    task = frame["task"]
    payload = task["payload"]
    if "split" in payload:
        pad = "x" * payload.get("pad", 0)
        many = [{"queue": payload.get("to", "bar"), "payload": {"n": n, "pad": pad}} for n in range(payload["split"])]
        say(done={"id": task["id"], "submit": many})
    else:
        os.write(out, f"{payload['n']} {task['id']}\n".encode())
        say(done={"id": task["id"]})
