"""Stage `pretrain`: train the source CNN on the source task and measure it on images it has never seen."""

from functools import partial
from pathlib import Path

from transfer import checkpoints, cnn, distribute, pretrain
from transfer.basics.console import counted, run, say
from transfer.basics.files import read_arrays, write_facts
from transfer.basics.params import read_section
from transfer.networks import engines
from transfer.networks.layers import write_network
from transfer.networks.provenance import made_with
from transfer.networks.threads import set_threads
from transfer.running.compute import Compute
from transfer.running.shipping import shipping


def main() -> None:
    """Train with all workers of `compute.distribute`, save the model, and write down its accuracy."""
    params = read_section("pretrain", pretrain.Params)
    architecture = read_section("cnn", cnn.Params)
    training = read_section("training", engines.Params)
    compute = read_section("compute", Compute)
    set_threads(params.threads)

    with distribute.team(compute.distribute, training) as team:  # which waits for all: files may be made until then
        source = read_arrays(Path("data/source.npz"))
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
    with shipping() as process:
        process.submit(partial(layers.save, "source", program.weights(), path=Path("models/source.keras"))).result()
    write_network(Path("models/source.npz"), layers, program.weights())
    facts = {"accuracy": test_accuracy, "validation_accuracy": accuracy, "classes": source["classes"].tolist()}
    sections = {"cnn": architecture.model_dump(mode="json"), "pretrain": params.model_dump(mode="json")}
    facts |= made_with(sections, trained_by)
    write_facts(Path("models/source.json"), facts)
    checkpoint.delete()
    tested = counted(len(source["test_labels"]), "test image")
    say(f"pretrain: models/source.keras, accuracy {test_accuracy:.4f} on {tested}")


if __name__ == "__main__":
    run(main)
