"""Serve an application on an address of this machine, until Ctrl-C."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from transfer.console import UserError, one_line

if TYPE_CHECKING:
    import uvicorn

CONNECTIONS = 128  # at a time; who comes when there are as many is told to come again (503)
GRACE = 3  # seconds that answers may still take after Ctrl-C


def bind(host: str, port: int) -> socket.socket:
    """Take an address, before anything that takes time.

    Args:
        host: name or address of this machine.
        port: 0 takes a free one.

    Raises:
        UserError: if it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it lets two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        return listener
    except socket.gaierror:
        raise UserError(f"--host {host} is no name or address that is known here: name another") from None
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise UserError(f"port {port} of {host} is in use: name another with --port, or 0 for any") from None
        if number == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host} is no address of this machine: name another") from None
        raise UserError(f"port {port} of {host} cannot be had ({one_line(error)}): name another with --port") from None


def url(host: str, listener: socket.socket) -> str:
    """The address for a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"


def server_of(app: ASGIApp) -> uvicorn.Server:
    """A server that keeps no log and says little of itself; its `run` ends with Ctrl-C, after the last answers."""
    import uvicorn

    from transfer.serve.protocol import Impatient

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Impatient,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
