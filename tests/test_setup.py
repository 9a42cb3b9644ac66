"""`make` sets up .venv by itself, says in one line why it cannot, and does nothing when there is nothing to do."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

on_posix = pytest.mark.skipif(os.name == "nt", reason="make and sh; Windows has its three lines in the README")

# Stands for python3, for .venv's python and for uv: writes down how it was called and does the least that setup needs.
STUB = """\
#!/bin/sh
echo "${{0##*/}} $*" >>calls
case "$*" in
    *version_info*) echo {version} ;;
    *"import ensurepip"*) exit {no_venv:d} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip config list") cat pip-settings 2>/dev/null ;;
    "-m pip install"*) cp "$0" .venv/bin/uv ;;
    "pip install"*)
        echo "index $UV_DEFAULT_INDEX certificate $SSL_CERT_FILE" >>calls
        [ ! -e failure ] || {{ cat failure; exit 1; }} ;;
esac
"""
TOOLS = "sh make awk cat cmp cp df dirname grep head mkdir rm sed tail touch"


class Machine:
    """A machine with the usual tools, whatever Pythons a test puts there, and the project in a folder with a space."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS.split():
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool}"))
        self.project = folder / "the project"
        (self.project / "requirements").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", self.project)
        shutil.copy(ROOT / "requirements" / "setup.sh", self.project / "requirements")
        for lock in LOCKS:
            self.lock(lock.stem, "1")

    def lock(self, name: str, text: str) -> None:
        (self.project / "requirements" / f"{name}.txt").write_text(text)

    def python(self, name: str, version: str, no_venv: bool = False) -> None:
        self.write(self.bin / name, STUB.format(version=version, no_venv=no_venv))

    def write(self, program: Path, text: str) -> None:
        program.write_text(text)
        program.chmod(0o755)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.project / "calls").unlink(missing_ok=True)
        return subprocess.run(
            command,
            cwd=self.project,
            env={"PATH": str(self.bin), "HOME": str(self.project.parent)} | environment,
            capture_output=True,
            text=True,
        )

    def setup(self, wanted: str, **environment: str) -> list[str]:
        """Set up, which must succeed; return the locks that were installed."""
        done = self.run("sh", "requirements/setup.sh", wanted, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        installed = re.findall(r"requirements/(\w+)\.txt", self.calls())
        assert len(done.stdout.splitlines()) == (1 if installed else 0), "one line when it works, none when it does not"
        return installed

    def fails(self, wanted: str = "base", **environment: str) -> str:
        """Set up, which must fail; return the one line that says why."""
        done = self.run("sh", "requirements/setup.sh", wanted, **environment)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("setup: ")
        return done.stderr

    def calls(self) -> str:
        calls = self.project / "calls"
        return calls.read_text() if calls.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@on_posix
def test_clean_cache_forgets_trained_runs_alone(machine: Machine) -> None:
    runs, other = machine.project / ".cache/runs", machine.project / ".cache/other"
    for folder in (runs, other):
        folder.mkdir(parents=True)
    assert machine.run("make", "clean-cache").returncode == 0
    assert not runs.exists()
    assert other.exists()


# What fails says so.


@on_posix
def test_no_python(machine: Machine) -> None:
    assert "no python3 found" in machine.fails()


@on_posix
@pytest.mark.parametrize("version", ["3.8", "3.14"])
def test_python_too_old_or_too_new(machine: Machine, version: str) -> None:
    machine.python("python3", version)
    line = machine.fails()
    assert f"python3 is Python {version}" in line
    assert "3.11, 3.12 or 3.13" in line


@on_posix
def test_another_python_on_path_is_found(machine: Machine) -> None:
    machine.python("python3", "3.8")
    machine.python("python3.12", "3.12")
    machine.setup("base")
    assert "python3.12 -m venv .venv" in machine.calls()


@on_posix
def test_the_python_asked_for_is_the_one_used(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.python("mine", "3.13")
    machine.setup("base", PYTHON="mine")
    assert "mine -m venv .venv" in machine.calls()
    assert "no yours found" in machine.fails(PYTHON="yours")
    assert machine.setup("base") == [], "a wrong name costs nobody an environment"


@on_posix
def test_no_venv_module(machine: Machine) -> None:
    machine.python("python3", "3.11", no_venv=True)
    assert "apt install python3-venv" in machine.fails()


@on_posix
def test_no_network(machine: Machine) -> None:
    """With the real Python, pip and lock."""
    shutil.copy(ROOT / "requirements" / "uv.txt", machine.project / "requirements")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        start = time.monotonic()
        line = machine.fails(PYTHON=sys.executable, PIP_INDEX_URL=index, PIP_CONFIG_FILE=os.devnull)
    assert "cannot reach the package index" in line
    assert time.monotonic() - start < 60


@on_posix
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("error: failed to write to file: No space left on device (os error 28)", "the disk is full"),
        ("error: Failed to fetch: `x`\n  Caused by: dns error", "cannot reach the package index"),
        ("  x Failed to download `a`\n  Caused by: Hash mismatch for `a`", "differs from the one that was locked"),
        ("Resolved\nerror: something new\n\n", "error: something new (log: .venv/setup.log)"),
    ],
)
def test_why_an_install_failed(machine: Machine, output: str, said: str) -> None:
    machine.python("python3", "3.11")
    (machine.project / "failure").write_text(output)
    assert said in machine.fails()


HASHES = {"not in the lock": f" --hash=sha256:{'0' * 64}", "missing": ""}


@on_posix
@pytest.mark.parametrize(("found", "said"), [("not in the lock", "differs from the one that"), ("missing", "no hash")])
def test_pip_installs_nothing_without_the_right_hash(machine: Machine, tmp_path: Path, found: str, said: str) -> None:
    """With the real Python and pip."""
    with zipfile.ZipFile(tmp_path / "uv-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("uv-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 1.0\n")
        wheel.writestr("uv-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("uv-1.0.dist-info/RECORD", "")
    machine.lock("uv", f"uv==1.0{HASHES[found]}\n")
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    assert said in machine.fails(PYTHON=sys.executable, **environment)
    assert not list((machine.project / ".venv").rglob("uv-1.0.dist-info"))


@on_posix
def test_nothing_is_installed_without_asking_for_hashes(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("gpu")
    installs = [call for call in machine.calls().splitlines() if "pip install" in call]
    assert len(installs) == 2
    assert all("--require-hashes" in call for call in installs)


# What is done is not done again.


@on_posix
def test_nothing_to_do_does_nothing(machine: Machine) -> None:
    machine.python("python3", "3.11")
    assert machine.setup("base") == ["uv", "base"]
    assert machine.setup("base") == []
    assert machine.calls().count("\n") == 1, "only the version is asked"


@on_posix
def test_an_extra_is_added_and_stays(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    assert machine.setup("dev") == ["dev"]
    assert machine.setup("base") == []
    assert machine.setup("gpu") == ["gpu"]
    machine.lock("dev", "2")
    assert machine.setup("base") == ["dev"], "what is installed is kept in step"


@on_posix
def test_a_changed_lock_is_installed_again(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    machine.lock("base", "2")
    assert machine.setup("base") == ["base"]
    machine.lock("uv", "2")
    assert machine.setup("base") == ["uv"]
    assert machine.setup("base") == []


@on_posix
def test_an_interrupted_setup_is_repeated(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    machine.lock("base", "2")
    (machine.project / "failure").write_text("interrupted")
    machine.fails()
    (machine.project / "failure").unlink()
    machine.lock("base", "1")  # some of 2 may be there: 1 is not what .venv holds
    assert machine.setup("base") == ["base"]


@on_posix
def test_an_interrupted_venv_is_made_anew(machine: Machine) -> None:
    machine.python("python3", "3.11")
    (machine.project / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(machine.bin / "python3", machine.project / ".venv" / "bin" / "python")
    assert machine.setup("base") == ["uv", "base"]


@on_posix
def test_a_moved_folder_gets_a_new_venv(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("dev")
    machine.project = machine.project.rename(machine.project.with_name("moved"))
    assert machine.setup("base") == ["uv", "base", "dev"]


@on_posix
@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 1\n", *(STUB.format(version=v, no_venv=False) for v in ("3.9", "3.12"))]
)
def test_a_broken_or_replaced_python_gets_a_new_venv(machine: Machine, text: str) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    scripts = machine.project / ".venv" / "bin"
    machine.write(scripts / "python", text)
    machine.write(scripts / "python3", text)
    activated = f"{scripts}:{machine.bin}"
    assert machine.setup("base", PATH=activated) == ["uv", "base"]
    assert machine.setup("base", PATH=activated) == []


@on_posix
def test_uv_hears_of_pips_mirror_and_certificate(machine: Machine) -> None:
    machine.python("python3", "3.11")
    settings = "global.cert='/etc/mirror.pem'\nglobal.index-url='http://mirror.invalid/simple'\n"
    (machine.project / "pip-settings").write_text(settings)
    machine.setup("base")
    assert "index http://mirror.invalid/simple certificate /etc/mirror.pem\n" in machine.calls()
    machine.lock("base", "2")
    (machine.project / "pip-settings").write_text(":env:.index-url='http://nearer.invalid/simple'\n" + settings)
    machine.setup("base")
    assert "index http://nearer.invalid/simple" in machine.calls(), "the environment is nearer than a file"


@on_posix
def test_make_repro_checks_and_runs_with_the_programs_of_the_environment(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    machine.write(machine.bin / "python", "#!/bin/sh\nexit 1\n")
    shutil.copy(machine.project / ".venv/bin/python", machine.project / ".venv/bin/dvc")
    for name in ("dvc.yaml", "params.yaml"):
        (machine.project / name).touch()
    check, repro = "python -m stages.check", "dvc repro --force one"
    for expected in ([check, repro], [repro]):
        assert machine.run("make", "repro", "ARGS=--force one").returncode == 0
        assert machine.calls().splitlines()[1:] == expected
    os.utime(machine.project / "params.yaml", (2**32, 2**32))  # edited
    machine.write(machine.project / ".venv/bin/python", f"{STUB.format(version='3.11', no_venv=False)}exit 2\n")
    assert machine.run("make", "repro").returncode == 2
    assert machine.calls().splitlines()[1:] == [check]


# What the locks promise.


def locked(path: Path) -> dict[str, tuple[set[str], int]]:
    """Every requirement of a lock, as its pins ("3.1 ; marker") and the number of hashes of the poorest."""
    found: dict[str, tuple[set[str], int]] = {}
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        requirement = Requirement(entry.split("\\")[0])
        pins, hashes = found.get(canonicalize_name(requirement.name), (set(), sys.maxsize))
        pin = f"{requirement.specifier} ; {requirement.marker or ''}"
        found[canonicalize_name(requirement.name)] = (pins | {pin}, min(hashes, entry.count("--hash=sha256:")))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_with_hashes(lock: Path) -> None:
    for name, (pins, hashes) in locked(lock).items():
        assert all(pin.startswith("==") for pin in pins), name
        assert hashes > 0, name


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_names_no_address_and_no_machine(lock: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|(?<!-r)(?<!-c) /\w", lock.read_text())


@pytest.mark.parametrize("extra", ["dev", "gpu"])
def test_locks_agree(extra: str) -> None:
    base, more = locked(LOCKS[0]), locked(ROOT / "requirements" / f"{extra}.txt")
    assert {name: more.get(name) for name in base} == base


@pytest.mark.parametrize("extra", ["base", "dev", "gpu"])
def test_locks_lie_within_the_bounds_of_the_project(extra: str) -> None:
    lock = locked(ROOT / "requirements" / f"{extra}.txt")
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"].get(extra, [])
    for requirement in map(Requirement, wanted):
        for pin in lock[canonicalize_name(requirement.name)][0]:
            assert requirement.specifier.contains(pin.split(" ;")[0].removeprefix("==")), f"{requirement}: {pin}"


def test_setup_takes_the_pythons_that_the_project_takes() -> None:
    script = (ROOT / "requirements" / "setup.sh").read_text()
    taken = re.search(r"^ +([\d. |]+)\) return ;;$", script, re.MULTILINE)
    assert taken
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert taken[1].split(" | ") == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed]
