"""`transfer serve`: a page on this machine where models answer what is drawn or dropped."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.console import UserError, one_line, say, warn
from transfer.serve.files import MODELS, warn_of_others

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

DESCRIPTION = """\
Open a page on this machine: draw, drop or choose an image, and see what the model of every strategy says of it. For
programs, POST /predict takes the bytes of a file. Nothing is kept, and nothing leaves the machine. Ctrl-C ends it,
with exit code 130."""
EXAMPLE = "transfer serve --port 8000    # then open http://127.0.0.1:8000/"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
EVERY = ("0.0.0.0", "::")  # addresses that stand for all of this machine's
CONNECTIONS = 256  # at a time; who comes when there are as many is told to come again (503)
GRACE = 3  # seconds that answers may still take after Ctrl-C
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--models", type=Path, default=MODELS, metavar="FOLDER", help="where the models are (default: %(default)s)"
    )
    add_address(parser)


def add_address(parser: argparse.ArgumentParser) -> None:
    """The two arguments that say where a page is."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for any (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    with bind(arguments.host, arguments.port) as listener:  # before anything that takes time
        from transfer.serve.app import build
        from transfer.serve.models import open_folder

        models, best = open_folder(arguments.models)
        warn_of_others(sorted(arguments.models.glob("*.keras")))
        application = build(models, best, hosts_of(arguments.host))
        strategies = ", ".join(model.metadata.strategy for model in models)
        return serve(application, listener, arguments.host, f"serving {strategies}")


def hosts_of(host: str) -> list[str]:
    """Names that requests may call a server by that listens on this address."""
    return ["*"] if host in EVERY else [*LOOPBACK, _in_url(host)]


def _in_url(host: str) -> str:
    """An address as in a URL and in the header Host."""
    return f"[{host}]" if ":" in host else host


def serve(application: Starlette, listener: socket.socket, host: str, what: str) -> int:
    """Say what can be found where, and serve until Ctrl-C.

    Args:
        application: to serve.
        listener: from `bind`.
        host: the address that it listens on.
        what: is there, in words that "at" and the page's address follow.

    Returns:
        The exit code.
    """
    name = _in_url(host)
    if name not in LOOPBACK:
        warn(f"with --host {host}, anyone who can reach this machine can use the page")
    say(f"{what} at http://{name}:{listener.getsockname()[1]}/; Ctrl-C stops it")
    try:
        server_of(application).run([listener])
    except KeyboardInterrupt:
        return 130
    return 0


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address of this machine; port 0 takes a free one.

    Raises:
        UserError: if nothing can listen there.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}, but must be from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on port {port} of {host} ({one_line(error)}): choose another --host or --port"
        ) from None


def server_of(application: Starlette) -> uvicorn.Server:
    """A server that keeps no log and says little of itself; its `run` ends with Ctrl-C, after the last answers."""
    import uvicorn

    config = uvicorn.Config(
        application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="error",
        server_header=False,
        proxy_headers=False,
        headers=list(HEADERS.items()),
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
