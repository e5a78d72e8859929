"""A RabbitMQ of the run's own, as `tests/support/broker.rs` starts one: free ports of the loopback, its own node
name, folders, cookie and epmd. A server that the machine may run is not touched."""

from __future__ import annotations

import re
import shutil
import socket
import time
from pathlib import Path
from typing import List, Optional

from .stage import STEP, Failed, Stage, wait_until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

# Connection.Start of AMQP 0-9-1 has the server's properties: `version`, a long string.
VERSION = re.compile(rb"\x07versionS\x00\x00\x00.([0-9][0-9A-Za-z.+-]*)", re.DOTALL)


class Broker:
    """Started in a stage, and gone with it."""

    def __init__(self, stage: Stage) -> None:
        if not SERVER.exists():
            raise Failed("no rabbitmq-server is installed (Debian: apt-get install rabbitmq-server)")
        epmd = shutil.which("epmd")
        if epmd is None:
            raise Failed("epmd, which comes with Erlang, is not in the PATH")
        folder = stage.subfolder("broker")
        port, dist_port, epmd_port = _free_ports(3)
        home = folder / "home"
        home.mkdir()
        cookie = home / ".erlang.cookie"
        cookie.write_text("ASYNCTASKCOMPARE")
        cookie.chmod(0o400)
        (folder / "plugins").write_text("[].")
        (folder / "rabbit.conf").write_text("disk_free_limit.absolute = 1MB\nlog.file.level = warning\n")
        environment = {
            "HOME": home,
            "ERL_EPMD_PORT": epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"compare{port}@localhost",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": dist_port,
            "RABBITMQ_MNESIA_BASE": folder / "mnesia",
            "RABBITMQ_LOG_BASE": folder / "log",
            "RABBITMQ_CONFIG_FILE": folder / "rabbit.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": folder / "config",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",
            # The script's own switch for "replace the shell".
            "detached": "true",
            "LANG": "C.UTF-8",
        }
        epmd_process = stage.start([epmd, "-port", epmd_port, "-address", "127.0.0.1"], "epmd", environment, folder)
        wait_until(epmd_process, 1, lambda: int(_connects(epmd_port)), "connections to it")
        server = stage.start([SERVER], "rabbitmq", environment, folder)
        answers: List[str] = []

        def look() -> int:
            answers.extend(filter(None, [_version(port)]))
            return len(answers)

        wait_until(server, 1, look, "answers of the broker")
        self.version = answers[0]
        self.uri = f"amqp://guest:guest@127.0.0.1:{port}/%2f"


def _free_ports(count: int) -> List[int]:
    # Held together, so that they differ.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _version(port: int) -> Optional[str]:
    """The version of the broker; None until it answers a protocol header, which its start does last."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"AMQP\0\0\x09\x01")
            answer = b""
            limit = time.monotonic() + 5
            while time.monotonic() < limit and b"\xce" not in answer:
                more = connection.recv(4096)
                if not more:
                    return None
                answer += more
    except OSError:
        time.sleep(STEP)
        return None
    found = VERSION.search(answer)
    return found[1].decode() if found else "unknown"
