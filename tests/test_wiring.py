"""What dvc.yaml says about the code: every import and every parameter is listed, and no stage can see too much."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from dvc_data.hashfile.meta import Meta
from ruamel.yaml import YAML

from benchmarks.reruns import outs

ROOT = Path(__file__).resolve().parents[1]
YAML_FILES = YAML(typ="safe")
STAGES: dict[str, Any] = YAML_FILES.load(ROOT / "dvc.yaml")["stages"]
PARAMS: dict[str, Any] = YAML_FILES.load(ROOT / "params.yaml")
LABELS = "data/target_test_labels.npz"
STRATEGIES = {path.stem for path in (ROOT / "transfer/strategies").glob("*.py")}
ROOMS = {f"transfer/{room}" for room in ("data", "models", "training", "strategies", "report")}


def imported(file: Path) -> set[str]:
    """Every name that a module imports, at its top or inside a function."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return (
        names | {node.module or "" for node in parts} | {f"{n.module}.{each.name}" for n in parts for each in n.names}
    )


def closure(stage: str) -> set[str]:
    """Every local module that a stage can reach, itself included; `further` reaches every strategy by its name."""
    reached: set[str] = set()
    ahead = {f"stages/{stage}.py"}
    if stage == "further":
        ahead |= {f"transfer/strategies/{name}.py" for name in STRATEGIES}
    while ahead:
        reached |= ahead
        found = {name.replace(".", "/") + ".py" for file in ahead for name in imported(ROOT / file)}
        ahead = {file for file in found if (ROOT / file).is_file()} - reached
    return reached


def sections_read(file: Path) -> set[str]:
    """The sections that a module names in `read_section("…")`."""
    calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "read_section" and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_local_code_that_it_can_reach(stage: str) -> None:
    """Module by module, or on a whole folder of the library, which is one entry of `dvc.lock`, where it reaches in."""
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", "transfer/"))}
    folders = {dep for dep in listed if (ROOT / dep).is_dir()}
    assert folders <= ROOMS
    parents = {file: Path(file).parent.as_posix() for file in closure(stage)}
    assert listed == {parent if parent in folders else file for file, parent in parents.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_sections_that_it_reads(stage: str) -> None:
    if stage in STRATEGIES:
        engine = import_module(f"transfer.strategies.{stage}").ENGINE
        read = {stage, "training"} if engine == "tensorflow" else {stage}
    else:
        read = sections_read(ROOT / "stages" / f"{stage}.py")
    whole = {name for name in STAGES[stage].get("params", []) if "." not in name}
    parts = {name.split(".")[0] for name in STAGES[stage].get("params", [])}
    assert whole <= read <= whole | parts


def test_extract_lists_the_layer_of_every_strategy_that_has_one() -> None:
    layers = {f"{name}.layer" for name, section in PARAMS.items() if isinstance(section, dict) and "layer" in section}
    assert set(STAGES["extract"]["params"]) == layers | {"probes"}


def test_library_code_reads_no_parameters_of_its_own() -> None:
    for file in (ROOT / "transfer").rglob("*.py"):
        assert not sections_read(file), file


def test_evaluate_and_further_alone_depend_on_the_test_labels() -> None:
    """And of `further` no strategy gets anything but shots and seeds: its labels go to the verdicts alone."""
    assert [name for name, stage in STAGES.items() if LABELS in stage["deps"]] == ["further", "evaluate"]
    assert [name for name in STAGES if LABELS in outs(STAGES[name])] == ["split"]
    assert not any(dep in ("data", "data/", ".") for stage in STAGES.values() for dep in stage["deps"])


def test_strategies_that_learn_from_others_alone_depend_on_predictions() -> None:
    parents = {name: {Path(dep) for dep in STAGES[name]["deps"]} for name in STRATEGIES}
    given = {name: {dep.stem for dep in deps if dep.parent.name == "predictions"} for name, deps in parents.items()}
    learners = {"self_training": {"label_propagation"}, "committee": STRATEGIES - {"committee"}}
    assert given == {name: set() for name in STRATEGIES} | learners


def test_the_report_alone_depends_on_outcomes_which_hold_the_labels() -> None:
    assert [name for name, stage in STAGES.items() if "data/outcomes.npz" in stage["deps"]] == ["report"]
    assert [name for name in STAGES if "data/outcomes.npz" in outs(STAGES[name])] == ["evaluate"]


def test_the_report_depends_on_every_template() -> None:
    assert (ROOT / "transfer/report/templates/page.html").is_file()
    assert "transfer/report" in STAGES["report"]["deps"]


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("split", "further", "evaluate")])
def test_no_other_stage_runs_code_that_names_the_test_labels(stage: str) -> None:
    """Nor sees the data where the test labels are too, except for `download` and `convert`, which bring them."""
    reached = [file for file in sorted(closure(stage)) if "test_labels" in (ROOT / file).read_text(encoding="utf-8")]
    if stage in ("download", "convert"):
        assert all(file.startswith(("stages/download", "transfer/data/")) for file in reached)
    elif stage == "pretrain":  # the source's own test labels, which come from data/source.npz
        assert reached == ["stages/pretrain.py"]
        assert "target" not in (ROOT / "stages/pretrain.py").read_text(encoding="utf-8")
    else:
        assert reached == []
        assert not {"data", "data/raw", "data/images"} & set(STAGES[stage]["deps"])


def test_a_room_imports_only_rooms_above_it() -> None:
    order = ["console", "params", "files", "data", "models", "training", "strategies", "evaluation", "report"]
    order += ["compare", "serve", "cli"]
    for file in (ROOT / "transfer").rglob("*.py"):
        room = file.relative_to(ROOT / "transfer").parts[0].removesuffix(".py")
        for name in imported(file):
            if name.startswith("transfer.") and (other := name.split(".")[1]) in order:
                assert order.index(other) <= order.index(room), f"{file.name} imports {name}"


def test_the_library_never_imports_a_stage_or_dvc() -> None:
    for file in (ROOT / "transfer").rglob("*.py"):
        modules = {name.split(".")[0] for name in imported(file)}
        assert not modules & {"stages", "dvc"}, file


def test_every_stage_has_a_description_and_a_module_of_its_name() -> None:
    for name, stage in STAGES.items():
        assert stage["desc"]
        assert stage["cmd"] == f"python -m stages.{name}"


def test_only_results_are_kept_in_git() -> None:
    for name, stage in STAGES.items():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path, uncached = (entry, False) if isinstance(entry, str) else (next(iter(entry)), True)
                kept = path.startswith("results/") and path != "results/report.html"  # its size is for the cache
                assert uncached == kept, (name, path)


def imported_by(stage: str) -> list[str]:
    code = f"import sys, stages.{stage}; print(*{{'tensorflow', 'keras', 'ray'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize("stage", ["download", "convert", "split", "further", "evaluate", "report"])
def test_light_stages_never_import_tensorflow(stage: str) -> None:
    assert imported_by(stage) == []


def test_a_strategy_imports_tensorflow_and_prints_nothing_of_it_and_never_ray() -> None:
    assert imported_by("end_to_end") == ["keras", "tensorflow"]


def test_no_parameter_has_a_name_that_dvc_leaves_out_of_its_run_cache() -> None:
    """An edit of such a parameter would have no effect once its stage was cached."""

    def names(section: Any) -> set[str]:
        if isinstance(section, dict):
            return {*section} | {name for value in section.values() for name in names(value)}
        return {name for value in section for name in names(value)} if isinstance(section, list) else set()

    assert not names(PARAMS) & {Meta.PARAM_SIZE, Meta.PARAM_NFILES}
