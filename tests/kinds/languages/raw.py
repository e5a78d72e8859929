"""A worker that prints its payloads' own text, cut out of the frame; of a long one the length and the beginning."""

import base64
import json
import os
import socket
import sys

frames = socket.socket(fileno=int(os.environ["ASYNCTASK_FD"]))
frames.sendall(b'{"ready":{"protocol":1}}\n')
for line in frames.makefile("rb"):
    frame = json.loads(line)
    if "halt" in frame:
        frames.sendall(b'{"bye":{}}\n')
        break
    if "task" not in frame:
        continue
    task = frame["task"]
    if "payload_base64" in task:
        text = f"bytes {base64.b64decode(task['payload_base64'])!r}"
    else:
        # The payload stands last, or before the headers, which these tasks do not have.
        text = line.decode().split('"payload":', 1)[1].rstrip().removesuffix("}}")
        if len(text) > 1000:
            text = f"{len(text)} bytes {text[:100]}"
    sys.stdout.write(f"RAW {text}\n")
    sys.stdout.flush()
    frames.sendall(json.dumps({"done": {"id": task["id"]}}).encode() + b"\n")
