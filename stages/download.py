"""Stage `download`: fetch the built-in data sets that the study names, and verify them by their contents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pooch

from transfer.console import UserError, run, say
from transfer.data import download
from transfer.data.originals import ORIGINALS
from transfer.data.sets import NONE, OWN, SETS
from transfer.files import write_arrays, write_text, write_whole
from transfer.params import PARAMS, read_params, read_section

RAW = Path("data/raw")
NOTHING = "Nothing was downloaded: the study names no data set that is.\n"


def named(params: Mapping[str, Any]) -> list[str]:
    """The data sets to download, of those that `data.source.name` and `data.target.name` say.

    Raises:
        UserError: if one of the two is missing or unknown.
    """
    names = []
    for task in ("source", "target"):
        try:
            names.append(params["data"][task]["name"])
        except (KeyError, TypeError):
            raise UserError(f"{PARAMS}: data.{task}.name is missing") from None
        if names[-1] not in (known := [*SETS, *OWN, NONE]):
            raise UserError(f"{PARAMS}: data.{task}.name is {names[-1]!r}, but must be one of {', '.join(known)}")
    return [name for name in ORIGINALS if name in names]


def main() -> None:
    """Write `data/raw/<name>.npz` for each data set; a line of text in its place where there is none."""
    params, names = read_section("download", download.Params), named(read_params())
    titles = " and ".join(ORIGINALS[name].title for name in names)
    say(f"download: {f'{titles}, verified by contents' if names else 'nothing, as the study names no such data set'}")
    cache = Path(os.environ.get("TRANSFER_STUDY_CACHE") or pooch.os_cache("transfer-study")).expanduser().absolute()
    fetched = {name: download.fetch(name, params, cache) for name in names}

    def write(folder: Path) -> None:
        for name in names:
            write_arrays(folder / f"{name}.npz", **fetched[name].arrays)
        if not names:
            write_text(folder / "README.txt", NOTHING)

    write_whole(RAW, write)
    for name, (arrays, origin) in fetched.items():
        words = {"train_labels": "training", "test_labels": "test"}
        counts = [f"{len(arrays[labels]):,} {word}" for labels, word in words.items() if labels in arrays]
        say(f"{RAW / f'{name}.npz'}: {' and '.join(counts)} images from {origin}")


if __name__ == "__main__":
    run(main)
