"""Check the whole of `params.yaml` before anything runs; not a stage, but what `make repro` calls first."""

from importlib import import_module
from pathlib import Path

from transfer import cells, cnn, download, pretrain, split, strategies
from transfer.console import UserError, run
from transfer.params import PARAMS, Section, parse_section, read_params

SECTIONS: dict[str, type[Section]] = {
    "download": download.Params,
    "split": split.Params,
    "cnn": cnn.Params,
    "pretrain": pretrain.Params,
    "compute": cells.Compute,
}


def strategy_sections() -> dict[str, type[Section]]:
    """The section of every strategy: the `Params` of the module that bears its name."""
    names = sorted(path.stem for folder in strategies.__path__ for path in Path(folder).glob("*.py"))
    return {name: import_module(f"transfer.strategies.{name}").Params for name in names}


def check(params: dict) -> None:
    """Check every section.

    Raises:
        UserError: naming the first section or key that is unknown, missing or out of range.
    """
    known = SECTIONS | strategy_sections()
    for name in params:
        if name not in known:
            raise UserError(f"{PARAMS}: {name} is not a section; known are {', '.join(known)}")
    for name, section in known.items():
        if name not in params:
            raise UserError(f"{PARAMS}: section {name} is missing")
        parse_section(name, params[name], section)


def main() -> None:
    """Check the file in the current folder."""
    check(read_params())


if __name__ == "__main__":
    run(main)
