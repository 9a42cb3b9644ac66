"""`make` sets up .venv by itself, says in one line why it cannot, and does nothing when there is nothing to do."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

on_posix = pytest.mark.skipif(os.name == "nt", reason="make and sh; Windows has its three lines in the README")

# Stands for python3, for .venv's python and for uv: writes down how it was called and does the least that setup needs.
STUB = """\
#!/bin/sh
echo "${{0##*/}} $*" >>calls
case "$*" in
    *version_info*) echo {version} ;;
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
        shutil.copy(ROOT / "pyproject.toml", self.project)
        shutil.copy(ROOT / "requirements" / "setup.sh", self.project / "requirements")
        for lock in LOCKS:
            self.lock(lock.stem, "1")

    def lock(self, name: str, text: str) -> None:
        (self.project / "requirements" / f"{name}.txt").write_text(text)

    def python(self, name: str, version: str) -> None:
        self.write(self.bin / name, STUB.format(version=version))

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
        return re.findall(r"requirements/(\w+)\.txt", self.calls())

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


# What fails says so.


@on_posix
def test_no_python(machine: Machine) -> None:
    assert "no Python 3.11, 3.12 or 3.13 found" in machine.fails()


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


@on_posix
def test_nothing_is_installed_without_asking_for_hashes(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("gpu")
    installs = [call for call in machine.calls().splitlines() if "pip install" in call and "--editable" not in call]
    assert len(installs) == 2
    assert all("--require-hashes" in call for call in installs)


# What is done is not done again.


@on_posix
def test_nothing_to_do_does_nothing(machine: Machine) -> None:
    machine.python("python3", "3.11")
    assert machine.setup("base") == ["uv", "base"]
    assert machine.setup("base") == []


@on_posix
def test_an_extra_is_added_and_stays(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    assert machine.setup("dev") == ["uv", "base", "dev"]
    assert machine.setup("base") == []
    assert machine.setup("gpu") == ["uv", "base", "dev", "gpu"]
    machine.lock("dev", "2")
    assert "dev" in machine.setup("base"), "what is installed is kept in step"


@on_posix
def test_an_interrupted_setup_is_repeated(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("base")
    machine.lock("base", "2")
    (machine.project / "failure").write_text("interrupted")
    machine.fails()
    (machine.project / "failure").unlink()
    machine.lock("base", "1")  # some of 2 may be there: 1 is not what .venv holds
    assert machine.setup("base") == ["uv", "base"]


@on_posix
def test_a_moved_folder_gets_a_new_venv(machine: Machine) -> None:
    machine.python("python3", "3.11")
    machine.setup("dev")
    machine.project = machine.project.rename(machine.project.with_name("moved"))
    assert machine.setup("base") == ["uv", "base", "dev"]


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
    machine.write(
        machine.project / ".venv/bin/python", STUB.format(version="3.11") + '[ "$2" != stages.check ] || exit 2\n'
    )
    assert machine.run("make", "repro").returncode == 2
    assert machine.calls().splitlines()[1:] == [check]


@on_posix
def test_make_repro_says_why_results_differ_where_nothing_was_edited(machine: Machine) -> None:
    (machine.bin / "git").symlink_to(shutil.which("git") or pytest.skip("no git"))
    machine.python("python3", "3.11")
    machine.setup("base")
    machine.write(machine.project / ".venv/bin/dvc", "#!/bin/sh\necho $1 >dvc.lock\n")
    for name in ("dvc.yaml", "params.yaml", "dvc.lock"):
        (machine.project / name).touch()
    assert machine.run("make", "repro").stdout == ""  # where there is no repository
    machine.write(machine.project / ".gitignore", "*\n!*.yaml\n!dvc.lock\n")
    identity = ("-c", "user.name=A Tester", "-c", "user.email=tester@example.org")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "Start")):
        assert machine.run("git", *command).returncode == 0
    assert machine.run("make", "repro").stdout == ""
    (machine.project / "dvc.lock").write_text("of another processor")
    assert machine.run("git", *identity, "commit", "-qam", "Theirs").returncode == 0
    assert "nothing else does. If you edited nothing" in machine.run("make", "repro").stdout
    (machine.project / "params.yaml").write_text("edited: 1")
    assert machine.run("make", "repro").stdout == ""


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
    taken = re.search(r" in ([\d. |]+)\) return ;; esac$", script, re.MULTILINE)
    assert taken
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert taken[1].split(" | ") == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed]
