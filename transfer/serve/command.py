"""`transfer serve`: a page on this machine where models answer what is drawn or dropped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from transfer.console import UserError, say

DESCRIPTION = """\
Open a page on this machine: draw, drop or choose an image, and see what the model of every strategy says of it. For
programs, POST /predict takes the bytes of a file. Nothing is kept, and nothing leaves the machine. Ctrl-C ends it,
with exit code 130."""
EXAMPLE = "transfer serve --port 8000    # then open http://127.0.0.1:8000/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("models"),
        metavar="FOLDER",
        help="where the models are (default: %(default)s)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="to listen on; the default, %(default)s, is for this machine alone"
    )
    parser.add_argument("--port", type=int, default=8000, help="to listen on, 0 for any (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    host = arguments.host
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port is {arguments.port}, but must be from 0 to 65535")
    from transfer.serve.server import bind, server_of, url

    with bind(host, arguments.port) as listener:
        from transfer.serve import app
        from transfer.serve.models import open_folder

        models, best = open_folder(arguments.models)
        application = app.build(models, best, host)
        if host not in app.LOOPBACK:
            print(f"warning: with --host {host} whoever reaches this machine can use the page", file=sys.stderr)
        names = ", ".join(model.metadata.strategy for model in models)
        say(f"{names} answer on {url(host, listener)} until Ctrl-C")
        try:
            server_of(application).run([listener])
        except KeyboardInterrupt:
            return 130
    return 0
