"""A worker that ends, or does not end, in an odd way: the first argument says which. It knows nothing but the frames."""

import ctypes
import json
import os
import signal
import socket
import sys
import threading

mood = sys.argv[1]
frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))


def forever():
    while True:
        threading.Event().wait()


def say(**frame):
    frames.sendall(json.dumps(frame).encode() + b"\n")


def odd():
    if mood == "segfault":
        ctypes.string_at(0)
    if mood == "exit":
        os._exit(0)
    if mood == "garbage":
        frames.sendall(b"\0\xff{]\r\n" * 100)
        forever()
    if mood == "endless":
        while True:
            frames.sendall(b"x" * 65536)
    if mood == "flood":
        for _ in range(1600):
            os.write(1, b"x" * 65536)
    if mood == "talk":
        for _ in range(20):
            say(log={"message": "\x1b" + "x" * (15 << 20)})
            say(progress={"id": frame["task"]["id"], "percent": 50, "note": "ä" * (2 << 20)})
        for _ in range(100_000):
            frames.sendall(b'{"log":{"level":"info","message":"again"}}\n')
        say(progress={"id": frame["task"]["id"], "percent": 60, "note": "ä" * 200})
        while not os.path.exists("go"):
            threading.Event().wait(0.01)
    if mood == "grandchild":
        told, tell = os.pipe()
        if os.fork() == 0:
            # Not of the group that the master kills.
            os.setsid()
            os.write(tell, b".")
            forever()
        os.read(told, 1)
        os.kill(os.getpid(), signal.SIGKILL)


def greedy():
    """Returns tasks and does them all the same."""
    rest = b""
    while more := frames.recv(1 << 20):
        *lines, rest = (rest + more).split(b"\n")
        together = [json.loads(line) for line in lines]
        tasks = [frame["task"]["id"] for frame in together if "task" in frame]
        for task in tasks[:1]:
            say(done={"id": task})
        for frame in together:
            if "recall" in frame:
                say(returned={"ids": tasks[1:]})
            if "ping" in frame:
                say(pong=frame["ping"])
            if "halt" in frame:
                say(bye={})
                return
        for task in tasks[1:]:
            say(done={"id": task})


if mood == "never_ready":
    forever()
if mood == "greedy":
    say(ready={"protocol": 1, "ahead": 2})
    greedy()
    sys.exit()
say(ready={"protocol": 1})
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        if frame["task"]["payload"].get("odd"):
            odd()
        say(done={"id": frame["task"]["id"]})
    elif "halt" in frame:
        if mood == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            forever()
        say(bye={})
        break
