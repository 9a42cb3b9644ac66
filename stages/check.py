"""Check the whole of `params.yaml` before anything runs; not a stage, but what `make repro` calls after an edit.

It also finds what DVC cannot: predictions of a strategy that is gone, which `evaluate` would go on counting.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from transfer import strategies
from transfer.console import UserError, run, shown
from transfer.data import download, split
from transfer.data import section as data
from transfer.data.conversion import check_counts
from transfer.data.sets import SETS
from transfer.evaluation import probes, selection
from transfer.models import cnn, model_file
from transfer.models.layers import nameable
from transfer.models.pretrained import load_pretrained
from transfer.params import PARAMS, Section, parse_section, read_params, written
from transfer.training import compute, precision, pretrain
from transfer.training.cluster import check_ray

SECTIONS: dict[str, type[Section]] = {
    "download": download.Params,
    "data": data.Params,
    "source": model_file.Params,
    "split": split.Params,
    "cnn": cnn.Params,
    "training": precision.Params,
    "pretrain": pretrain.Params,
    "probes": probes.Params,
    "report": selection.Params,
    "compute": compute.Compute,
}


def strategy_sections() -> dict[str, type[Section]]:
    """The section of every strategy: the `Params` of the module that bears its name."""
    names = sorted(path.stem for folder in strategies.__path__ for path in Path(folder).glob("*.py"))
    return {name: import_module(f"transfer.strategies.{name}").Params for name in names}


def check(params: dict[str, Any]) -> None:
    """Check every section, and what one section says of another.

    Raises:
        UserError: naming the first section or key that is unknown, missing or out of range, or a layer that cannot be.
    """
    known_strategies = strategy_sections()
    known = SECTIONS | known_strategies
    for name in params:
        if name not in known:
            raise UserError(f"{PARAMS}: {shown(name, 60)} is not a section; known are {', '.join(known)}")
    if missing := [name for name in known if name not in params]:
        raise UserError(f"{PARAMS}: section {missing[0]} is missing: add it (git diff {PARAMS} shows what was changed)")
    parsed: dict[str, Any] = {name: parse_section(name, params[name], section) for name, section in known.items()}

    chosen = parsed["report"].strategies
    for name in [] if chosen == "all" else chosen:
        if name not in known_strategies:
            choice = ", ".join(known_strategies)
            raise UserError(f"{PARAMS}: report.strategies names {written(name)}, but must be all or some of {choice}")
    others = [name for name in known_strategies if name != "committee"]
    if unknown := [name for name in parsed["committee"].members if name not in others]:
        choice = ", ".join(others)
        raise UserError(f"{PARAMS}: committee.members names {written(unknown[0])}, but must be some of {choice}")
    for key, side in (("data.source", parsed["data"].source), ("data.target", parsed["data"].target)):
        side.check_paths(key)
        if side.name in SETS:
            side.choose(SETS[side.name].classes, key)
    check_counts(parsed["data"], parsed["split"])
    if parsed["compute"].engine == "ray":
        check_ray()
    _check_source(parsed, list(known_strategies))


def _check_source(parsed: dict[str, Any], known_strategies: list[str]) -> None:
    """Check the source model as `pretrain` will load it, or the CNN's size, and the layers that strategies name."""
    source = parsed["source"]
    shape = parsed["data"].shape(model_file.image_shape(source), model_file.default_side(source))
    model_file.check(source)
    if source.file is None:
        cnn.check_fits(parsed["cnn"], *shape[:2])
        known = proposed = cnn.feature_layers(parsed["cnn"])
    else:
        given = load_pretrained(source, shape)
        known, proposed = nameable(given.fresh), given.layers
    for name in known_strategies:
        if (layer := getattr(parsed[name], "layer", "auto")) not in ("auto", *known):
            choice = ", ".join(proposed)
            raise UserError(f"{PARAMS}: {name}.layer is {written(layer)}, but must be auto or one of {choice}")


def check_predictions(stages: dict[str, Any], folder: Path) -> None:
    """Check that a stage makes every file of predictions.

    Args:
        stages: of `dvc.yaml`.
        folder: of the predictions.

    Raises:
        UserError: naming the first file that no stage makes.
    """
    made = {out for stage in stages.values() for out in stage.get("outs", []) if isinstance(out, str)}
    for file in sorted(folder.glob("[!.]*.npz")):
        if file.as_posix() not in made:
            raise UserError(f"{file} is made by no stage of dvc.yaml, yet `evaluate` would count it: delete it")


def main() -> None:
    """Check the current folder."""
    check(read_params())
    check_predictions(read_params(Path("dvc.yaml"))["stages"], Path("data/predictions"))


if __name__ == "__main__":
    run(main)
