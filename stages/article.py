"""Stage `article`: what the printed code of the article would do, if `article.measure` asks for it."""

from functools import partial
from pathlib import Path

from transfer import article
from transfer.basics.arrays import read_arrays
from transfer.basics.console import UserError, run, say
from transfer.basics.params import read_section
from transfer.cells import run_cells
from transfer.networks import engines
from transfer.outcomes import SPECIMENS
from transfer.predictions import no_predictions, write_predictions
from transfer.running.compute import Compute
from transfer.target import read_target

FOLDER = Path("data/specimens")


def main() -> None:
    """Train every cell of the study on the target, and on the source's own task again; write both predictions."""
    params = read_section("article", article.Params)
    if not params.measure:
        say("article: nothing to do, as article.measure is false")
        for name in SPECIMENS:
            write_predictions(FOLDER / f"{name}.npz", no_predictions())
        return
    say("article: train the article's printed code, on the target and on the source's own classes")
    compute = read_section("compute", Compute)
    engine = read_section("training", engines.Params).keras()
    target = read_target(Path("data/target_train"))
    source = read_arrays(Path("data/source.npz"), "train_images", "train_labels", "test_images", "classes")
    known = source["train_images"], source["train_labels"], source["classes"]
    if not len(source["train_images"]):
        raise UserError(article.NO_SOURCE)
    same_task = article.same_task(*known, shots=target.shots, seeds=len(target.draws))
    test_images = read_arrays(Path("data/target_test_images.npz"))["images"]

    for name, task, tested in zip(SPECIMENS, (target, same_task), (test_images, source["test_images"]), strict=True):
        network = partial(article.network, Path("models/source.keras"), len(task.classes), engine, params.betas)
        to_predict = task.to_predict(tested, task.images)
        fit = partial(article.fit, network=network, images=task.images, to_predict=to_predict, params=params)
        cells = run_cells(
            fit, None, task, params=params, compute=compute, code=Path(__file__), engine=engine, label=name
        )
        write_predictions(FOLDER / f"{name}.npz", cells)


if __name__ == "__main__":
    run(main)
