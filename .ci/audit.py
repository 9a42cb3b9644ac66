"""Ask whether a locked package has a known weakness: `python .ci/audit.py [--required]`.

pip-audit asks OSV, which needs the open network. Where that cannot be reached, this says so and is no failure, unless
the answer is required: GitHub's runs require it, so that an audit that never happens does not pass for a clean one.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOCKS = sorted((Path(__file__).resolve().parents[1] / "requirements").glob("*.txt"))
UNREACHABLE = re.compile(
    "ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Could not connect"
    r"|40[37] Client Error|50\d Server Error"
)


def audit(lock: Path, options: Sequence[str] = ()) -> tuple[list[str], str]:
    """Ask about every package of one lock that would be installed here: by this Python on this system.

    Args:
        lock: a file of requirements with hashes, which nothing is installed from.
        options: more of pip-audit's.

    Returns:
        What was found, a line each; why nobody could be asked, empty if somebody could.

    Raises:
        RuntimeError: if pip-audit fails otherwise, such as on a requirement without a hash.
    """
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--requirement", str(lock)]
    command += ["--vulnerability-service", "osv", "--format", "json", "--desc", "off", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]
    if not done.stdout.startswith("{"):
        if found := UNREACHABLE.search(done.stderr):
            return [], found[0]
        raise RuntimeError(last)
    weaknesses = []
    for package in json.loads(done.stdout)["dependencies"]:
        if "skip_reason" in package:
            raise RuntimeError(package["skip_reason"])
        for weakness in package["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "no version yet"
            weaknesses.append(f"{package['name']} {package['version']}: {weakness['id']}, mended in {mended}")
    return weaknesses, ""


def main(arguments: Sequence[str]) -> int:
    """Audit all locks; 0 if nothing is known, 1 if something is, or if nobody could be asked and that is required."""
    everything = set[str]()
    for lock in LOCKS:
        try:
            found, unasked = audit(lock, [option for option in arguments if option != "--required"])
        except RuntimeError as error:
            print(f"NOT audited: pip-audit failed on {lock.name}: {error}")
            return 1
        if unasked:
            print(f"NOT audited: the service that knows of weaknesses cannot be reached from here ({unasked})")
            return int("--required" in arguments)
        everything.update(found)
    here = f"Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}"
    locks = ", ".join(lock.name for lock in LOCKS)
    print("\n".join(sorted(everything)) or f"no known weakness in what {locks} install for {here}")
    return bool(everything)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
