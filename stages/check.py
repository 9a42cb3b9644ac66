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
from transfer.inputs import data
from transfer.networks import engines, given
from transfer.reporting import selection
from transfer.running import compute

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
    for key, side in (("source", parsed["data"].source), ("target", parsed["data"].target)):
        side.check_paths(f"data.{key}")
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


def check_predictions(stages: dict, folder: Path) -> None:
    """Check that a stage makes every file of predictions.

    Args:
        stages: as in `dvc.yaml`.
        folder: of the predictions.

    Raises:
        UserError: naming the first file that no stage makes.
    """
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    made = {out if isinstance(out, str) else next(iter(out)) for out in outs}  # one with options is a mapping
    for file in sorted(folder.glob("[!.]*.npz")):
        if file.as_posix() not in made:
            raise UserError(f"{file} is made by no stage of dvc.yaml, yet `evaluate` would count it: delete it")


def main() -> None:
    """Check the current folder."""
    check(read_params())
    check_predictions(read_params(Path("dvc.yaml")).get("stages", {}), Path("data/predictions"))


if __name__ == "__main__":
    run(main)
