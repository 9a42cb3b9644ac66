"""What `make repro` runs: check the parameters, unless they were checked as they are, and go on to `dvc repro`."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from transfer.basics.console import run

CHECKED = Path(".cache/checked")  # what was found in order: the check takes as long as all else where nothing is to do
LOOKED_AT = ("params.yaml", "dvc.yaml", "requirements/base.txt", "stages/*.py", "transfer/**/*.py")


def looked_at() -> str:
    """SHA-256 of all that the check depends on: files, and which predictions there are."""
    files = sorted({file for pattern in LOOKED_AT for file in Path().glob(pattern)})
    predictions = sorted(file.name for file in Path("data/predictions").glob("*"))
    return hashlib.sha256(repr([[(file, file.read_bytes()) for file in files], predictions]).encode()).hexdigest()


def run_check() -> int:
    """Run the check; its exit code."""
    return subprocess.run([sys.executable, "-m", "stages.check"]).returncode


def check() -> int:
    """Run the check where something has changed since it last passed; its exit code."""
    found = looked_at()
    if CHECKED.is_file() and CHECKED.read_text(errors="replace") == found:
        return 0
    if code := run_check():
        return code
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(found)
    return 0


def reproduce(arguments: list[str]) -> int:
    """`dvc repro`, its imports never searched for garbage: a tenth of a second less."""
    gc.disable()
    for name in ("dvc.cli.parser", "dvc.repo"):
        import_module(name)
    gc.enable()
    gc.freeze()
    from dvc.cli import main as dvc

    return dvc(["repro", *arguments])


def main() -> None:
    """Give the command line's arguments to DVC, unless the check finds a mistake.

    Where DVC fails, the check may tell why in better words: files of the user's own can have gone since it passed.
    """
    code = check()
    if not code and (code := reproduce(sys.argv[1:])):
        code = run_check() or code
    sys.exit(code)


if __name__ == "__main__":
    run(main)
