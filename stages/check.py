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
from transfer.data.sets import SETS
from transfer.evaluation import probes, selection
from transfer.models import cnn, model_file
from transfer.params import PARAMS, Section, parse_section, read_params, written
from transfer.training import compute, precision, pretrain
from transfer.training.cluster import check_ray

PATHS = ("path", "test_path")
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


def check(params: dict) -> None:
    """Check every section.

    Raises:
        UserError: naming the first section or key that is unknown, missing or out of range, or a layer that cannot be.
    """
    known = SECTIONS | strategy_sections()
    for name in params:
        if name not in known:
            raise UserError(f"{PARAMS}: {shown(name, 60)} is not a section; known are {', '.join(known)}")
    if missing := [name for name in known if name not in params]:
        raise UserError(f"{PARAMS}: section {missing[0]} is missing: add it (git diff {PARAMS} shows what was changed)")
    parsed: dict[str, Any] = {name: parse_section(name, params[name], section) for name, section in known.items()}
    wanted = parsed["report"].strategies
    for name in [] if wanted == "all" else wanted:
        if name not in strategy_sections():
            choice = ", ".join(strategy_sections())
            raise UserError(f"{PARAMS}: report.strategies names {written(name)}, but must be all or some of {choice}")
    both = parsed["data"]
    for key, side in (("data.source", both.source), ("data.target", both.target)):
        side.check_paths(key)
    _to_train_on("source", both, parsed["split"])
    _check_shots(parsed["split"], _to_train_on("target", both, parsed["split"]))
    if parsed["compute"].engine == "ray":
        check_ray()
    shape = both.shape(model_file.image_shape(parsed["source"]))
    model_file.check(parsed["source"])
    trained: list[str] = []
    if parsed["source"].file is None:
        cnn.check_fits(parsed["cnn"], *shape[:2])
        trained = cnn.feature_layers(parsed["cnn"])
    if (known_layers := model_file.known_layers(parsed["source"], trained)) is None:
        return
    for name in strategy_sections():
        if (layer := getattr(parsed[name], "layer", "auto")) not in ("auto", *known_layers):
            raise UserError(
                f"{PARAMS}: {name}.layer is {written(layer)}, but must be auto or one of {', '.join(known_layers)}"
            )


def _to_train_on(key: str, both: data.Params, grid: split.Params) -> dict[str, int]:
    """How many images to train on each class of a built-in source or target has at most; empty for others.

    Raises:
        UserError: naming a class that the data set lacks, or that all images of are held out of.
    """
    side: data.Side = getattr(both, key)
    if (known := SETS.get(side.name)) is None:
        return {}
    counts = dict(zip(known.classes, known.images, strict=True))
    left = {}
    for name in side.choose(known.classes, f"data.{key}"):
        count = counts[name] // 2 if name in both.shared else counts[name]
        parts = {"test": 0.0 if known.split else grid.test}
        parts |= {"source_validation": grid.source_validation} if key == "source" else {}
        for part, fraction in parts.items():
            count -= max(1, round(fraction * count)) if fraction else 0
            if count < 1:
                raise UserError(
                    f"{PARAMS}: split.{part} is {fraction}, which leaves none of the {counts[name]} images of class "
                    f"{name} of data.{key} to train on: lower it"
                )
        left[name] = count
    return left


def _check_shots(grid: split.Params, target: dict[str, int]) -> None:
    """Check that there are enough labels, as far as that is known.

    Args:
        grid: the `split` section.
        target: images to train on of each of the target's classes; empty where they are not known.
    """
    most = max(grid.shots)
    if target and most > (fewest := min(target.values())):
        named = next(name for name, count in target.items() if count == fewest)
        raise UserError(
            f"{PARAMS}: split.shots asks for {most} labelled images per class, but class {named} of data.target has "
            f"{fewest} to train on: use at most {fewest}"
        )


def made_by(stages: dict) -> set[str]:
    """Paths of what the stages of `dvc.yaml` write, without metrics and plots.

    Raises:
        UserError: if it is not what it must be.
    """
    try:
        outs = [out for stage in stages.values() for out in stage.get("outs", [])]
        return {out if isinstance(out, str) else next(iter(out)) for out in outs}  # one with options is a mapping
    except (AttributeError, TypeError, StopIteration):
        raise UserError("dvc.yaml is not as DVC wants it: `dvc stage list` says where") from None


def check_given(params: dict, made: set[str]) -> None:
    """Check that no path of the user's own is that of something which the pipeline writes.

    Args:
        params: all sections, checked.
        made: paths of what it writes.

    Raises:
        UserError: naming the parameter.
    """
    given = {f"data.{side}.{key}": params["data"][side][key] for side in ("source", "target") for key in PATHS}
    for key, text in (given | {"source.model": params["source"]["model"]}).items():
        path = Path(text).resolve()
        for out in map(Path, sorted(made)):
            whole = out.resolve()
            if path == whole or path in whole.parents or whole in path.parents:
                raise UserError(f"{PARAMS}: {key} is {text}, where the pipeline writes {out}: put yours elsewhere")


def check_predictions(made: set[str], folder: Path) -> None:
    """Check that a stage makes every file of predictions.

    Args:
        made: paths of what the stages write.
        folder: of the predictions.

    Raises:
        UserError: naming the first file that no stage makes.
    """
    for file in sorted(folder.glob("[!.]*.npz")):
        if file.as_posix() not in made:
            raise UserError(f"{file} is made by no stage of dvc.yaml, yet `evaluate` would count it: delete it")


def main() -> None:
    """Check the current folder."""
    params, made = read_params(), made_by(read_params(Path("dvc.yaml")).get("stages", {}))
    check(params)
    check_given(params, made)
    check_predictions(made, Path("data/predictions"))


if __name__ == "__main__":
    run(main)
