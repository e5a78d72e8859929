"""A worker that takes tasks ahead, with nothing but the standard library; one thread, which looks at the socket while it sleeps.

Payloads: `sleep_ms` (0), `die` (true: SIGSEGV), `n`. What it sees and does goes to the file `seen`, a line each:
`most N` (how many tasks were not begun at once), `ended N MOMENT`, `returned COUNT`.
"""

import json
import os
import select
import signal
import socket
import sys
import time

ahead = int(sys.argv[1])
answers = sys.argv[2] == "answers"
stream = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
stream.setblocking(False)
seen = os.open("seen", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
line_begun = b""
tasks = []
rest = []
most = 0


def note(text):
    os.write(seen, text.encode() + b"\n")


def say(frame):
    stream.setblocking(True)
    stream.sendall(json.dumps(frame).encode() + b"\n")
    stream.setblocking(False)


def look(seconds):
    """Takes what has come, after a wait of at most so long; recalls are answered at once."""
    global line_begun, most
    readable, _, _ = select.select([stream], [], [], seconds)
    if not readable:
        return
    got = stream.recv(65536)
    if not got:
        raise SystemExit(0)
    *lines, line_begun = (line_begun + got).split(b"\n")
    for line in lines:
        frame = json.loads(line)
        if "task" in frame:
            tasks.append(frame["task"])
        elif "recall" in frame:
            if answers:
                say({"returned": {"ids": [task["id"] for task in tasks]}})
                note(f"returned {len(tasks)}")
                tasks.clear()
        else:
            rest.append(frame)
    if len(tasks) > most:
        most = len(tasks)
        note(f"most {most}")


say({"ready": {"protocol": 1, "name": "AheadWorker", "ahead": ahead}})
while True:
    if not tasks and not rest:
        look(None)
        continue
    if not tasks:
        frame = rest.pop(0)
        if "ping" in frame:
            say({"pong": frame["ping"]})
        elif "halt" in frame:
            say({"bye": {}})
            break
        continue
    task = tasks.pop(0)
    payload = task["payload"]
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGSEGV)
    until = time.monotonic() + payload.get("sleep_ms", 0) / 1000
    while (left := until - time.monotonic()) > 0:
        look(left)
    note(f"ended {payload['n']} {time.monotonic()}")
    say({"done": {"id": task["id"]}})
    look(0)
