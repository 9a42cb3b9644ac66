"""Say whether dvc.lock is what the committed code, parameters and commands make: `python .ci/stale.py`.

For a clone without cache and before `dvc repro`, which would rewrite dvc.lock. `dvc status -q` is of no use there: it
also complains of outputs that are merely not there yet (`deleted`, `not in cache`). Only these make a stage stale:
a command, parameter or dependency that differs, and whatever dvc.lock has never heard of.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def changes(status: dict[str, list[Any]], lock: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Find what is stale.

    Args:
        status: what `dvc status --json` prints.
        lock: the `stages` of dvc.lock.

    Returns:
        For each stale stage what has changed.
    """
    outs = [Path(out["path"]) for stage in lock.values() for out in stage.get("outs", [])]
    made = {path.as_posix() for out in outs for path in (out, *out.parents)}  # a stage may depend on a whole folder

    def of_stage(name: str, findings: list[Any]) -> Iterator[str]:
        if name not in lock:
            yield "never run"
            return
        known = {entry["path"] for kind in ("deps", "outs") for entry in lock[name].get(kind, [])}
        for finding in findings:
            if isinstance(finding, str):
                if finding != "always changed":
                    yield finding
                continue
            for path, change in finding.get("changed deps", {}).items():
                if isinstance(change, dict):  # parameters, by key
                    yield from (f"{key} {how}" for key, how in change.items())
                elif change != "deleted":
                    yield f"{path} {change}"
                elif path not in known:
                    yield f"{path} new"
                elif path not in made:
                    yield f"{path} deleted"
            yield from (f"{path} new" for path in finding.get("changed outs", {}) if path not in known)

    found = {name: list(of_stage(name, findings)) for name, findings in status.items()}
    return {name: what for name, what in found.items() if what}


def main() -> int:
    """Compare the working tree with dvc.lock; 0 where it is fresh, 1 where it is stale, 2 where DVC fails."""
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], stdout=subprocess.PIPE, text=True)
    if status.returncode:
        return 2  # and DVC has said why
    lock = Path("dvc.lock")
    stages = YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}
    stale = changes(json.loads(status.stdout), stages)
    for name, what in stale.items():
        print(f"{name}: {', '.join(what)}")
    print("dvc.lock is stale: run dvc repro and commit dvc.lock" if stale else "dvc.lock is fresh")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
