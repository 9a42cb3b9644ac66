"""Stage `pretrain`: train the source CNN on the source task, or take over a model that was trained before.

Either is measured on images it has never seen, where it knows the source's classes.
"""

from pathlib import Path

from transfer.console import counted, run, say
from transfer.files import read_arrays, write_json
from transfer.models import cnn, model_file, pretrained
from transfer.models.networks import predictor, save_model, without_head, write_layers
from transfer.models.versions import made_with
from transfer.params import read_section
from transfer.training import precision, pretrain
from transfer.training.threads import set_threads
from transfer.training.trainer import Trainer

MODELS = Path("models")
SOURCE = Path("data/source.npz")


def main() -> None:
    """Train, save the model, and write down its accuracy."""
    params = read_section("pretrain", pretrain.Params)
    architecture = read_section("cnn", cnn.Params)
    chosen = read_section("training", precision.Params).precision
    model = read_section("source", model_file.Params)
    set_threads(params.threads)
    if model.file:
        take_over(model)
        return

    source = read_arrays(SOURCE)
    images, labels, classes = source["train_images"], source["train_labels"], source["classes"].tolist()
    how = f"{chosen}, {counted(params.epochs, 'epoch')}, {counted(params.threads, 'thread')}"
    say(f"pretrain: {counted(len(images), 'image')} of {len(classes)} classes, {how}")
    network = cnn.build(architecture, image_shape=images.shape[1:], classes=len(classes))
    betas = params.beta_1, params.beta_2
    trainer = Trainer(network, shift=params.shift, betas=betas, precision=chosen)
    for epoch, loss in enumerate(pretrain.train_source(trainer, images, labels, params), 1):
        accuracy = pretrain.accuracy(trainer.predict(source["validation_images"]), source["validation_labels"])
        say(f"pretrain: epoch {epoch} of {params.epochs}, loss {loss:.4f}, validation accuracy {accuracy:.4f}")
    test_accuracy = pretrain.accuracy(trainer.predict(source["test_images"]), source["test_labels"])

    save_model(MODELS / "source.keras", network)
    write_layers(MODELS / "network.json", without_head(network))  # the same whatever the source's classes
    known = cnn.feature_layers(architecture)
    facts = {"accuracy": test_accuracy, "validation_accuracy": accuracy, "classes": classes}
    facts |= {"layers": known, "layer": known[len(architecture.blocks) - 1]}
    sections = {"cnn": architecture.model_dump(mode="json"), "pretrain": params.model_dump(mode="json")}
    write_json(MODELS / "source.json", facts | made_with(sections, chosen))
    tested = counted(len(source["test_labels"]), "test image")
    say(f"pretrain: models/source.keras, accuracy {test_accuracy:.4f} on {tested}")


def take_over(params: model_file.Params) -> None:
    """Write somebody's own model as the source model, and measure it if it tells the source's classes apart."""
    model_file.check(params)
    source = read_arrays(SOURCE)
    taken = pretrained.load_pretrained(params, source["train_images"].shape[1:])
    head = f"without its head {taken.head}" if taken.head else "whole, as it ends in no classifier"
    say(f"pretrain: nothing to train: {params.model} is taken over, {head}; layers {', '.join(taken.layers)}")

    accuracies: list[float | None] = [None, None]
    classes = source["classes"].tolist()
    if taken.classes == len(classes):
        predict = predictor(taken.model)
        for number, part in enumerate(("test", "validation")):
            if len(images := source[f"{part}_images"]):
                accuracies[number] = pretrain.accuracy(predict(images)[0], source[f"{part}_labels"])
    save_model(MODELS / "source.keras", taken.model)
    write_layers(MODELS / "network.json", taken.fresh)
    facts = dict(zip(("accuracy", "validation_accuracy"), accuracies, strict=True)) | {"classes": classes}
    facts |= {"layers": taken.layers, "layer": taken.layer}
    write_json(MODELS / "source.json", facts | made_with({"source": params.model_dump(mode="json")}))
    known = "" if accuracies[0] is None else f", accuracy {accuracies[0]:.4f} on test images of {len(classes)} classes"
    say(f"pretrain: models/source.keras{known}")


if __name__ == "__main__":
    run(main)
