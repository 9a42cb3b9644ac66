"""Say whether dvc.lock is what the committed code, parameters and commands make: `python .ci/stale.py`.

For a clone without data and before `dvc repro`, which would rewrite dvc.lock. What an earlier stage makes is merely
missing in such a clone, which DVC calls `deleted`; every other change of a dependency, parameter or command is stale.
"""

import json
import subprocess
import sys
from typing import Any


def changes(status: dict[str, list[Any]]) -> list[str]:
    """What is stale, a line each, of what `dvc status --json` prints."""
    found = []
    for stage, findings in status.items():
        for finding in findings:
            if isinstance(finding, str):  # "changed command"
                found.append(f"{stage}: {finding}")
                continue
            for path, change in finding.get("changed deps", {}).items():
                if change != "deleted":
                    found.append(f"{stage}: {path} {change}")
    return found


if __name__ == "__main__":
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], stdout=subprocess.PIPE, check=True)
    stale = changes(json.loads(done.stdout))
    print("\n".join(stale) or "dvc.lock is fresh")
    sys.exit("dvc.lock is stale: run dvc repro and commit dvc.lock" if stale else 0)
