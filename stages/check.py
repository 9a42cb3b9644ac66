"""Check the whole of `params.yaml` before anything runs; not a stage, but what `make repro` calls first.

It also finds what DVC cannot: predictions of a strategy that is gone, which `evaluate` would go on counting.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from transfer import article, cnn, pretrain, split, strategies, taps
from transfer.basics.console import UserError, run
from transfer.basics.params import PARAMS, Section, parse_section, read_params
from transfer.datasets import download
from transfer.datasets.sets import NONE, SETS
from transfer.inputs import data
from transfer.networks import engines, given
from transfer.reporting import selection
from transfer.running import compute

PATHS = ("path", "test_path")
SECTIONS: dict[str, type[Section]] = {
    "download": download.Params,
    "data": data.Params,
    "source": given.Params,
    "split": split.Params,
    "cnn": cnn.Params,
    "training": engines.Params,
    "pretrain": pretrain.Params,
    "taps": taps.Params,
    "article": article.Params,
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
            raise UserError(f"{PARAMS}: {name} is not a section; known are {', '.join(known)}")
    if missing := [name for name in known if name not in params]:
        raise UserError(f"{PARAMS}: section {missing[0]} is missing")
    parsed: dict[str, Any] = {name: parse_section(name, params[name], section) for name, section in known.items()}
    wanted = parsed["report"].strategies
    for name in [] if wanted == "all" else wanted:
        if name not in strategy_sections():
            choice = ", ".join(strategy_sections())
            raise UserError(f"{PARAMS}: report.strategies names {name!r}, but must be all or some of {choice}")
    for key, side in (("data.source", parsed["data"].source), ("data.target", parsed["data"].target)):
        side.check_paths(key)
        if side.name in SETS:
            side.choose(SETS[side.name].classes, key)
    if parsed["article"].measure and parsed["data"].source.name == NONE:
        raise UserError(article.NO_SOURCE)
    shape = parsed["data"].shape(given.image_shape(parsed["source"]))
    given.check(parsed["source"], parsed["training"].engine)
    trained: list[str] = []
    if parsed["source"].given is None:
        network = cnn.layers(parsed["cnn"], image_shape=shape, classes=2)
        parsed["training"].engine_for(network)
        trained = network.taps
    if (known_taps := given.known_taps(parsed["source"], trained)) is None:
        return
    for name in strategy_sections():
        if (tap := getattr(parsed[name], "tap", "auto")) not in ("auto", *known_taps):
            raise UserError(f"{PARAMS}: {name}.tap is {tap!r}, but must be auto or one of {', '.join(known_taps)}")


def made_by(stages: dict) -> set[str]:
    """Paths of what the stages of `dvc.yaml` write, without metrics and plots."""
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {out if isinstance(out, str) else next(iter(out)) for out in outs}  # one with options is a mapping


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
