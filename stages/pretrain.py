"""Stage `pretrain`: train the source CNN on the source task, or load a pretrained model.

Either is measured on images it has never seen, where it knows the source's classes.
"""

from pathlib import Path

from sklearn.metrics import accuracy_score

from transfer.console import counted, run, say
from transfer.files import read_arrays, write_json
from transfer.models import cnn, model_file
from transfer.models.networks import predictor, save_model, without_head
from transfer.models.pretrained import Pretrained, load_pretrained
from transfer.models.versions import made_with
from transfer.params import read_section
from transfer.training import precision, pretrain
from transfer.training.threads import set_threads
from transfer.training.trainer import Trainer

MODELS = Path("models")
POOR = "The source model has an accuracy of only {:.1%} on its own {} classes: little can be transferred. "
MORE = "Likely causes: wrong labels; too few images; too short a training (pretrain.least_steps, pretrain.epochs)."
CAUSES = (
    "Likely causes: source.range; the order of data.source.classes (without one, names are sorted as text: 1, 10, 2); "
    "data.source.polarity, data.source.margin."
)
OTHERS = "The source model has {} classes, but data.source has {}: it was not measured on them."
NOT_LINEAR = "The source model was not measured on its own task: its head is more than one linear layer."


def main() -> None:
    """Train or load, save the model, and write down its accuracy."""
    params = read_section("pretrain", pretrain.Params)
    architecture = read_section("cnn", cnn.Params)
    chosen = read_section("training", precision.Params).precision
    given = read_section("source", model_file.Params)
    model_file.check(given)
    set_threads(params.threads)
    source = read_arrays(Path("data/source.npz"))
    classes = source["classes"].tolist()
    if given.file:
        model = load_pretrained(given, source["train_images"].shape[1:])
        head = f"without its head {model.head}" if model.head else "whole, as it ends in no classifier"
        name = f"{given.network} with ImageNet weights" if given.model == model_file.IMAGENET else given.model
        say(f"pretrain: nothing to train: {name} is loaded, {head}; layers {', '.join(model.layers)}")
        made = made_with({"source": given.model_dump(mode="json")})
    else:
        images, labels = source["train_images"], source["train_labels"]
        how = f"{chosen}, {counted(params.threads, 'thread')}"
        say(f"pretrain: {counted(len(images), 'image')} of {len(classes)} classes, {how}")
        network = cnn.build(architecture, image_shape=images.shape[1:], classes=len(classes))
        betas = params.beta_1, params.beta_2
        trainer = Trainer(network, shift=params.shift, betas=betas, precision=chosen)
        validation = source["validation_images"], source["validation_labels"]
        for done in pretrain.train_source(trainer, images, labels, validation, params):
            how_far = f"step {done.steps:,} of {done.of:,}"
            say(f"pretrain: {how_far}, loss {done.loss:.4f}, validation accuracy {done.accuracy:.4f}")
        layers = cnn.feature_layers(architecture)
        model = Pretrained(network, without_head(network), layers, layers[len(architecture.blocks) - 1], "logits")
        sections = {"cnn": architecture.model_dump(mode="json"), "pretrain": params.model_dump(mode="json")}
        made = made_with(sections, chosen)

    facts: dict = {"accuracy": None, "validation_accuracy": None, "classes": classes}
    notes = []
    predict = predictor(model.model)
    for key, part in (("validation_accuracy", "validation"), ("accuracy", "test")):
        if model.classes == len(classes) and len(images := source[f"{part}_images"]):
            facts[key] = accuracy_score(source[f"{part}_labels"], predict(images)[0].argmax(axis=1))
    if facts["accuracy"] is not None and pretrain.is_poor(facts["accuracy"], len(classes)):
        notes.append(POOR.format(facts["accuracy"], len(classes)) + (CAUSES if given.file else MORE))
    if model.classes and classes and model.classes != len(classes):
        notes.append(OTHERS.format(model.classes, len(classes)))
    if model.head and classes and not model.classes:
        notes.append(NOT_LINEAR)
    for note in notes:
        say(f"warning: {note}")
    save_model(MODELS / "source.keras", model.model)
    write_json(MODELS / "network.json", model.fresh.get_config())
    write_json(MODELS / "source.json", facts | {"layers": model.layers, "layer": model.layer, "notes": notes} | made)
    tested = counted(len(source["test_labels"]), "test image")
    known = "" if facts["accuracy"] is None else f", accuracy {facts['accuracy']:.4f} on {tested}"
    say(f"pretrain: models/source.keras{known}")


if __name__ == "__main__":
    run(main)
