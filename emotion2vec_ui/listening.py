"""The listening socket, and who has the port where it is taken."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import urllib.request
from pathlib import Path

from emotion2vec_ui.console import say
from emotion2vec_ui.settings import Settings

LISTEN_BACKLOG = 2048
"""uvicorn's own default."""


def listen(settings: Settings) -> socket.socket | None:
    """The listening socket; without one None, and the reason on standard error.

    Bound before anything heavy is imported, so that a taken port is told at once.
    """
    name, port = settings.server_name.strip("[]"), settings.server_port
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    # With the protocol said, asyncio sets TCP_NODELAY; without it each answer waits 40 ms for the
    # client's delayed acknowledgement of its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((name, port))
        listener.listen(LISTEN_BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            process = port_holder(port)
            by = f" by {process}" if process else ""
            say(f"Port {port} is taken{by}. Stop that, or choose another with --server-port.")
        else:
            say(f"Cannot listen on {name}:{port}: {error.strerror}. See --server-name.")
        return None


def port_holder(port: int) -> str | None:
    """The process that listens on a TCP port, as "name (pid N)"; None where /proc does not say."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                # Local address is HEX:HEX; state 0A is LISTEN.
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        # Other users' processes are not readable, and any process may end meanwhile.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        name = (process / "comm").read_text().strip()
                        return f"{name} (pid {process.name})"
    return None


def is_this_program(name: str, port: int) -> bool:
    """Whether this program listens there already: operators run `doctor` beside it."""
    host = "127.0.0.1" if name in ("0.0.0.0", "localhost") else name
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2) as answer:
            return set(json.load(answer)) == {"status", "version"}
    except (OSError, ValueError):
        return False
