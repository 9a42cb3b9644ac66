"""Which model files are meant, and whether they are those of the study that is checked out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transfer.console import UserError, shown, some, warn

MODELS = Path("models")  # of the study in this folder
BEST = "best.keras"  # a copy of the recommended strategy's model
DEFAULT = MODELS / BEST


def model_path(text: str) -> Path:
    """The file that is named: by its path, or by a strategy alone, as `scratch` for `models/scratch.keras`."""
    path = Path(text)
    return path if path.suffix or path.name != text else MODELS / f"{text}.keras"


def check_there(path: Path) -> None:
    """Check that a model is there; raises a `UserError` that says where to look."""
    if path.is_file() and path.suffix != ".keras":
        raise UserError(f"{shown(path)} is not a .keras file: give a strategy's name, or the path of its model")
    if path.is_file():
        return
    if names := sorted(file.stem for file in path.parent.glob("*.keras")):
        raise UserError(f"{shown(path)} is missing: {shown(path.parent)} has {shown(', '.join(names))}")
    raise UserError(f"{shown(path)} is missing: run this in the folder of a finished study, or give --model PATH")


def warn_of_others(paths: Sequence[Path]) -> None:
    """Warn of models, all in one folder, that are not those which the study's `dvc.lock` records."""
    from transfer.compare.revisions import not_recorded

    if others := [shown(path) for path in not_recorded(paths)]:
        what, command = f"{some(others)} are", "dvc checkout"
        if len(others) == 1:
            what, command = f"{others[0]} is", f"dvc checkout {others[0]}"
        warn(f"{what} not what dvc.lock records, as after `git switch`: run `{command}`, or `dvc repro`")
