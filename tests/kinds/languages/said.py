"""A worker that says what the payload tells it to, as bytes: nothing checks them, and the id is put in the place of @."""

import json
import os
import socket

frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
frames.sendall(b'{"ready":{"protocol":1,"name":"Said"}}\n')
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        task = frame["task"]
        said = task["payload"]["say"].encode("latin-1").replace(b"@", task["id"].encode())
        for mark, length in task["payload"].get("long", {}).items():
            said = said.replace(mark.encode(), b"x" * length)
        for mark, (text, times) in task["payload"].get("list", {}).items():
            said = said.replace(mark.encode(), ",".join([text] * times).encode())
        frames.sendall(said + b"\n")
    elif "halt" in frame:
        frames.sendall(b'{"bye":{}}\n')
        break
