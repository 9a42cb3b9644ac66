"""`transfer choose`: which images of a folder to label first."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.console import UserError, counted, one_line, say, shown, warn
from transfer.serve.files import MODELS, check_there, warn_of_others
from transfer.serve.label import ORDER, columns

if TYPE_CHECKING:
    import numpy as np

    from transfer.data.preprocessing import Preprocessing
    from transfer.models.model_file import Params

DESCRIPTION = """\
Choose the images of a folder to label first, by a source model's features: each is typical of as many others as
possible. Writes a table and, beside it, a page that shows them. Images in the folder's labels.csv count as labelled.
Features are kept in .cache/features; `make clean-cache` deletes them."""
EXAMPLE = "transfer choose 20 --from photos"
SOURCE = MODELS / "source.keras"  # of the study in this folder
CACHE = Path(".cache/features")
BATCH = 256  # images in memory at a time
SIDE = 96  # pixels of a picture on the page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("count", type=int, metavar="COUNT", help="images to choose")
    parser.add_argument("--from", type=Path, required=True, dest="folder", metavar="FOLDER", help="of the images")
    parser.add_argument(
        "--model",
        default=str(SOURCE),
        help="a .keras or .h5 file, or imagenet, taken as source.model of params.yaml (default: %(default)s)",
    )
    parser.add_argument("--network", help="in the place of source.network, as MobileNetV2 where --model is imagenet")
    parser.add_argument(
        "--output", type=Path, default=ORDER, metavar="FILE", help="the table to write (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the table and the page."""
    folder, count, output = arguments.folder, arguments.count, arguments.output
    if not folder.is_dir():
        raise UserError(f"{shown(folder)} is not a folder: name the one that your images are in")
    import pandas as pd

    from transfer.data import folders, images
    from transfer.data.table import LABELS, read_table
    from transfer.files import write_text

    files = folders.list_unlabelled(folder, shown(folder), warn)
    paths = [file.relative_to(folder).as_posix() for file in files]
    known = set[str]()
    if (folder / LABELS).is_file():
        known = {*read_table(folder, "data.target.path", images.untold, columns()).path}
    labelled = [row for row, path in enumerate(paths) if path in known]
    left = len(files) - len(labelled)
    if not 1 <= count <= left:
        have = f"{shown(folder)} has {counted(left, 'image')} without a label"
        raise UserError(f"COUNT is {count}, but {have}: choose at least 1 and no more than these")

    form, given = _read_params(arguments.model, arguments.network, recordings=folders.has_recordings(files))
    features = _read_features(files, form, given)
    from transfer.data.choosing import COVERED, choose

    rows, alike = choose(features, count, labelled)
    about = "" if len(files) <= COVERED else "about "
    why = [f"{about}{counted(number, 'image')} more like it than like any before it" for number in alike.tolist()]
    if labelled:
        why = [f"{clause} or with a label" for clause in why]
    else:
        why[0] = f"the most typical of all {len(files):,}"
    chosen = [
        {"path": paths[row], "rank": rank, "why": clause}
        for rank, (row, clause) in enumerate(zip(rows, why, strict=True), 1)
    ]
    page = output.with_suffix(".html")
    write_text(output, pd.DataFrame(chosen).to_csv(index=False, lineterminator="\n"))
    title = f"{counted(count, 'image')} of {shown(folder.resolve().name)} to label first"
    _write_page(page, title, chosen, [files[row] for row in rows], form)
    say(f"{shown(output)}: {count:,} of {counted(len(files), 'image')}, {len(labelled):,} of which have a label")
    order = "" if output == ORDER else f" --order {shown(output)}"
    say(f"{shown(page)} shows them; label them with: transfer label {shown(folder)}{order}")
    return 0


def _read_params(model: str, network: str | None, *, recordings: bool) -> tuple[Preprocessing, Params]:
    """The form that images are brought to, and the model, by params.yaml but for what the command line names."""
    from transfer.data import section as data
    from transfer.data.preprocessing import Preprocessing
    from transfer.models import model_file
    from transfer.params import parse_section, read_params

    content = read_params()
    params = parse_section("data", content["data"], data.Params)
    given = parse_section("source", content["source"], model_file.Params)
    if Path(model) == SOURCE:
        if network:
            raise UserError("--network is the network of a --model: name that as well, as in --model imagenet")
        check_there(SOURCE)
        warn_of_others([SOURCE])
    else:
        if model != model_file.IMAGENET and not Path(model).is_file():
            raise UserError(f"--model is {shown(model)}, which is not a file: name a .keras or .h5 file, or imagenet")
        if model == model_file.IMAGENET and not network and given.network == model_file.NONE:
            raise UserError("--model imagenet needs the name of a network, as in --network MobileNetV2")
        given = given.model_copy(update={"model": model} | ({"network": network} if network else {}))
        model_file.check(given)
    shape = params.shape(model_file.image_shape(given), model_file.default_side(given))
    side, sound = params.target, params.sound if recordings else None
    form = Preprocessing(*shape, fit=params.fit, polarity=side.polarity, sound=sound, margin=side.margin)
    return form, given if Path(model) != SOURCE else given.model_copy(update={"model": str(SOURCE)})


def _read_features(files: Sequence[Path], form: Preprocessing, given: Params) -> np.ndarray:
    """Scaled features of files, (files, width) float32; remembered by what they depend on."""
    import joblib

    from transfer.models.model_file import IMAGENET

    read = [] if given.model == IMAGENET else [Path(given.model)]
    key = [given.model_dump_json(), form.to_text(), *map(_digest, [*read, *files])]
    memory = joblib.Memory(CACHE, verbose=0)
    return memory.cache(_compute_features, ignore=["files", "form", "given"])(key, files, form, given)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read: {one_line(error)}") from None


def _compute_features(_key: list[str], files: Sequence[Path], form: Preprocessing, given: Params) -> np.ndarray:
    import numpy as np

    from transfer.data.folders import read_files
    from transfer.files import read_facts
    from transfer.models.features import Scaling
    from transfer.models.networks import backbone, load_model, predictor
    from transfer.models.pretrained import load_pretrained

    if given.file == SOURCE:
        model, layer = load_model(SOURCE), read_facts(SOURCE.with_suffix(".json"))["layer"]
    else:
        taken = load_pretrained(given, form.shape)
        model, layer = taken.model, taken.layer
    predict = predictor(backbone(model, layer))
    images, features = read_files(files, form, "choose", warn), []
    while batch := list(islice(images, BATCH)):
        features.append(predict(np.concatenate(batch))[0])
    found = np.concatenate(features)
    return Scaling.of_pool(found).apply(found)


def _write_page(
    path: Path, title: str, chosen: Sequence[dict[str, Any]], files: Sequence[Path], form: Preprocessing
) -> None:
    """A contact sheet in one file, in the look of the report."""
    from dataclasses import replace

    from transfer.data.folders import read_file
    from transfer.files import write_text
    from transfer.report.pages import ENVIRONMENT, png_address

    picture = replace(form, height=SIDE, width=SIDE, channels=3, fit="pad", polarity="same", margin=0)
    images = [each | {"image": png_address(read_file(file, picture))} for each, file in zip(chosen, files, strict=True)]
    template = ENVIRONMENT.from_string((Path(__file__).parent / "templates/choose.html").read_text(encoding="utf-8"))
    write_text(path, template.render(title=title, images=images))
