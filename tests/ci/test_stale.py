"""The freshness gate of continuous integration, on real Git and DVC repositories."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STALE = Path(__file__).parents[2] / ".ci" / "stale.py"

DVC_YAML = """\
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    params: [make.lines]
    outs: [parts/a.txt, raw.txt]
  use:
    cmd: python -c "open('used.txt', 'w').write(open('raw.txt').read())"
    deps: [raw.txt]
    outs:
    - used.txt:
        cache: false
  gather:
    cmd: python -m platform
    deps: [parts]
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    who = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | who | {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose dvc.lock is committed and fresh."""
    folder = tmp_path_factory.mktemp("origin")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "params.yaml").write_text("make: {lines: 2}\n")
    (folder / ".gitignore").write_text("/parts/\n")
    (folder / "make.py").write_text(
        "import os\nos.makedirs('parts', exist_ok=True)\nfor n in ('raw.txt', 'parts/a.txt'): open(n, 'w').write('2')\n"
    )
    dvc = (sys.executable, "-m", "dvc")
    for command in (
        ("git", "init", "--quiet"),
        (*dvc, "init", "--quiet"),
        (*dvc, "config", "core.analytics", "false"),
        (*dvc, "repro", "--quiet"),
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "fresh"),
    ):
        done = run(folder, *command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """What continuous integration sees: the committed files, no cache."""
    assert run(tmp_path, "git", "clone", "--quiet", str(origin), "clone").returncode == 0
    return tmp_path / "clone"


def test_a_clone_is_fresh_whatever_is_edited_that_no_stage_reads(clone: Path) -> None:
    (clone / "params.yaml").write_text("# a comment\nmake: {lines: 2}\nother: 1\n")
    done = run(clone, sys.executable, str(STALE))
    assert (done.returncode, done.stdout.splitlines()) == (0, ["dvc.lock is fresh"]), done.stderr


def test_every_edit_of_code_parameters_and_stages_is_told(clone: Path) -> None:
    with (clone / "make.py").open("a") as code:
        code.write("# edited\n")
    (clone / "params.yaml").write_text("make: {lines: 3}\n")
    stages = DVC_YAML.replace("-c", "-Bc") + "  third:\n    cmd: python -c 1\n    deps: [make.py]\n"
    (clone / "dvc.yaml").write_text(stages)
    done = run(clone, sys.executable, str(STALE))
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == {"make", "use", "third"}
    for words in ("make: make.py modified", "'make.lines': 'modified'", "use: changed command", "third: make.py"):
        assert words in done.stdout
