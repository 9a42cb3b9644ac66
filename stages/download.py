"""Stage `download`: fetch the built-in data sets that the study names, and verify them by their contents."""

from pathlib import Path

from transfer.console import run, say
from transfer.data import download
from transfer.files import write_arrays, write_text, write_whole
from transfer.params import read_params, read_section

RAW = Path("data/raw")
NOTHING = "Nothing to download: the study uses no data set that needs it.\n"


def main() -> None:
    """Write `data/raw/<name>.npz` for each data set; a line of text in its place where there is none."""
    params, data = read_section("download", download.Params), read_params()["data"]
    names = [name for name in download.KINDS if name in (data["source"]["name"], data["target"]["name"])]
    fetched = {name: download.fetch(name, params) for name in names}

    def write(folder: Path) -> None:
        for name, (arrays, _) in fetched.items():
            write_arrays(folder / f"{name}.npz", **arrays)
        if not names:
            write_text(folder / "README.txt", NOTHING)

    write_whole(RAW, write)
    for name, (arrays, origin) in fetched.items():
        training, test = len(arrays["train_labels"]), len(arrays["test_labels"])
        say(f"{RAW / name}.npz: {training:,} training and {test:,} test images from {origin}")
    if not names:
        say(f"{RAW}: {NOTHING.strip()}")


if __name__ == "__main__":
    run(main)
