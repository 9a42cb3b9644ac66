"""Stage `download`: fetch MNIST and verify it against the published SHA-256 of its four files."""

from __future__ import annotations

import os
from pathlib import Path

import pooch

from transfer import download
from transfer.basics.console import run, say
from transfer.basics.files import write_arrays
from transfer.basics.params import read_section

RAW = Path("data/raw/mnist.npz")


def main() -> None:
    """Write the four arrays to `data/raw/mnist.npz`."""
    params = read_section("download", download.Params)
    say("download: MNIST, from the first source whose contents are the published ones")
    cache = Path(os.environ.get("TRANSFER_STUDY_CACHE") or pooch.os_cache("transfer-study"))
    arrays, origin = download.fetch_mnist(params, cache.expanduser().absolute())
    write_arrays(RAW, **arrays)
    say(f"{RAW}: {len(arrays['train_labels']):,} training and {len(arrays['test_labels']):,} test images from {origin}")


if __name__ == "__main__":
    run(main)
