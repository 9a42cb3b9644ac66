"""What `make repro` runs: check the parameters and, if all is well, `dvc repro` with the arguments that are given.

Both are programs that need half a second to start, so they start side by side.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from transfer.basics.console import run


def main() -> None:
    """Import DVC while the check runs in a process of its own; then reproduce, unless the check found a mistake."""
    with subprocess.Popen([sys.executable, "-m", "stages.check"]) as check:
        for name in ("dvc.cli.parser", "dvc.repo", "dvc.repo.reproduce"):
            import_module(name)
    from dvc.cli import main as dvc

    sys.exit(check.returncode or dvc(["repro", *sys.argv[1:]]))


if __name__ == "__main__":
    run(main)
