"""A worker with frames that answers with a result, and nothing but the standard library."""

import json
import os
import socket


def outcome(task):
    wanted = task["payload"]
    if any(not isinstance(number, int) for number in wanted["args"]):
        return {"failed": {"id": task["id"], "error": "null is no number"}}
    return {"done": {"id": task["id"], "result": {wanted["task"]: sum(wanted["args"])}}}


master = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
master.sendall(b'{"ready":{"protocol":1}}\n')
for line in master.makefile("rb"):
    frame = json.loads(line)
    if "task" in frame:
        with open("framed", "a") as seen:
            seen.write(frame["task"]["id"] + "\n")
        answer = outcome(frame["task"])
    elif "ping" in frame:
        answer = {"pong": frame["ping"]}
    elif "halt" in frame:
        answer = {"bye": {}}
    else:
        continue
    master.sendall(json.dumps(answer).encode() + b"\n")
