"""Stage `pretrain`: train the source CNN on the source task, or take over a model that was trained before.

Either is measured on images it has never seen, where it knows the source's classes.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from transfer import checkpoints, cnn, distribute, pretrain
from transfer.basics.arrays import read_arrays
from transfer.basics.console import counted, run, say
from transfer.basics.files import write_facts
from transfer.basics.params import read_section
from transfer.networks import engines, given, takeover
from transfer.networks.graph import Architecture
from transfer.networks.layers import write_architecture, write_network
from transfer.networks.provenance import made_with
from transfer.networks.threads import set_threads
from transfer.running.compute import Compute
from transfer.running.shipping import shipping

MODELS = Path("models")
SOURCE = Path("data/source.npz")


def main() -> None:
    """Train with all workers of `compute.distribute`, save the model, and write down its accuracy."""
    params = read_section("pretrain", pretrain.Params)
    architecture = read_section("cnn", cnn.Params)
    training = read_section("training", engines.Params)
    compute = read_section("compute", Compute)
    model = read_section("source", given.Params)
    set_threads(params.threads)
    if model.given:
        take_over(model, training, compute)
        return

    with distribute.team(compute.distribute, training) as team:  # which waits for all: files may be made until then
        source = read_arrays(SOURCE)
        images, labels, classes = source["train_images"], source["train_labels"], len(source["classes"])
        layers = cnn.layers(architecture, image_shape=images.shape[1:], classes=classes)
        engine = training.engine_for(layers)
        trained_by = str(engine) if team.devices == 1 else f"{engine}, {team.devices} devices"
        how = f"{trained_by}, {counted(params.epochs, 'epoch')}, {counted(params.threads, 'thread')}"
        say(f"pretrain: {counted(len(images), 'image')} of {classes} classes, {how}")

        train = partial(pretrain.train_source, images, labels, layers=layers, engine=engine, params=params)
        key = compute.memory(Path(__file__)).key(train)
        team.agree(key)
        checkpoint = checkpoints.Checkpoint(checkpoints.FOLDER / f"pretrain-{key}.npz", team)
        validation = source["validation_images"], source["validation_labels"]
        with team.scope():
            for program, loss, epoch in train(checkpoint=checkpoint):
                accuracy = pretrain.accuracy(program, *validation)
                say(f"pretrain: epoch {epoch} of {params.epochs}, loss {loss:.4f}, validation accuracy {accuracy:.4f}")
    if not team.chief:
        return

    test_accuracy = pretrain.accuracy(program, source["test_images"], source["test_labels"])
    write_source(layers, program.weights(), layers)
    facts = {"accuracy": test_accuracy, "validation_accuracy": accuracy, "classes": source["classes"].tolist()}
    sections = {"cnn": architecture.model_dump(mode="json"), "pretrain": params.model_dump(mode="json")}
    facts |= made_with(sections, trained_by)
    write_facts(MODELS / "source.json", facts)
    checkpoint.delete()
    tested = counted(len(source["test_labels"]), "test image")
    say(f"pretrain: models/source.keras, accuracy {test_accuracy:.4f} on {tested}")


def take_over(params: given.Params, training: engines.Params, compute: Compute) -> None:
    """Write somebody's own model as the source model, and measure it if it tells the source's classes apart."""
    given.check(params, training.engine)
    with distribute.team(compute.distribute, training) as team:
        pass  # alone, as nothing is trained
    if not team.chief:
        return
    source = read_arrays(SOURCE)
    taken = takeover.take_over(params, source["train_images"].shape[1:])
    head = f"without its head {taken.head}" if taken.head else "whole, as it ends in no classifier"
    say(f"pretrain: nothing to train: {params.model} is taken over, {head}; taps {', '.join(taken.graph.taps)}")

    accuracies: list[float | None] = [None, None]
    engine, classes = training.engine_for(taken.graph), source["classes"].tolist()
    if taken.graph.classes == len(classes):
        program = engines.program(taken.graph, engine)
        program.start(taken.weights, seed=0)
        for number, part in enumerate(("test", "validation")):
            if len(images := source[f"{part}_images"]):
                accuracies[number] = pretrain.accuracy(program, images, source[f"{part}_labels"])
    write_source(taken.graph, taken.weights, taken.fresh)
    facts = dict(zip(("accuracy", "validation_accuracy"), accuracies, strict=True)) | {"classes": classes}
    sections = {"source": params.model_dump(mode="json")}
    write_facts(MODELS / "source.json", facts | made_with(sections, str(engine)))
    known = "" if accuracies[0] is None else f", accuracy {accuracies[0]:.4f} on test images of {len(classes)} classes"
    say(f"pretrain: models/source.keras{known}")


def write_source(network: Architecture, weights: list[np.ndarray], fresh: Architecture) -> None:
    """Write the source model for Keras and for the engines, and what a training from scratch has of it: its layers.

    Args:
        network: with its weights.
        weights: trained.
        fresh: the same to be trained from random weights.
    """
    with shipping() as process:
        process.submit(partial(network.save, "source", weights, path=MODELS / "source.keras")).result()
    write_network(MODELS / "source.npz", network, weights)
    write_architecture(MODELS / "network.json", replace(fresh, classes=0))  # the same whatever the source's classes


if __name__ == "__main__":
    run(main)
