"""The freshness gate of continuous integration, on real Git and DVC repositories."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STALE = Path(__file__).parents[1] / ".ci" / "stale.py"

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
THIRD_STAGE = "  third:\n    cmd: python -c 1\n    deps: [raw.txt]\n"


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


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


def append(name: str, text: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(append("make.py", ""), id="nothing"),
        pytest.param(append("used.txt", "edited"), id="an output"),
        pytest.param(append("params.yaml", "# a comment\nother: {lines: 3}\n"), id="what no stage reads"),
        pytest.param(append("dvc.yaml", "artifacts:\n  a: {path: raw.txt}\n"), id="an artifact"),
    ],
)
def test_fresh_in_a_clone_without_cache(clone: Path, edit: Callable[[Path], None]) -> None:
    edit(clone)
    done = run(clone, sys.executable, str(STALE))
    assert (done.returncode, done.stdout.splitlines()) == (0, ["dvc.lock is fresh"]), done.stderr


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        pytest.param(append("make.py", "# edited\n"), "make: make.py modified", id="code"),
        pytest.param(lambda folder: (folder / "make.py").unlink(), "make: make.py deleted", id="code gone"),
        pytest.param(replace("params.yaml", "2", "3"), "make: make.lines modified", id="parameter"),
        pytest.param(replace("dvc.yaml", "-c", "-Bc"), "use: changed command", id="command"),
        pytest.param(append("dvc.yaml", THIRD_STAGE), "third: never run", id="stage never run"),
        pytest.param(replace("dvc.yaml", "raw.txt]\n  use", "raw.txt, b]\n  use"), "make: b new", id="new output"),
    ],
)
def test_stale(clone: Path, edit: Callable[[Path], None], said: str) -> None:
    edit(clone)
    done = run(clone, sys.executable, str(STALE))
    assert done.stdout.splitlines() == [said, "dvc.lock is stale: run dvc repro and commit dvc.lock"], done.stderr
    assert done.returncode == 1


def test_stale_without_dvc_lock(clone: Path) -> None:
    (clone / "dvc.lock").unlink()
    done = run(clone, sys.executable, str(STALE))
    assert done.stdout.splitlines()[:2] == ["make: never run", "use: never run"]
    assert done.returncode == 1


def test_neither_fresh_nor_stale_where_dvc_fails(clone: Path) -> None:
    (clone / "dvc.yaml").write_text("stages: [")
    done = run(clone, sys.executable, str(STALE))
    assert (done.returncode, done.stdout) == (2, "")
    assert "dvc.yaml" in done.stderr
