"""The networks of keras.applications, without Keras."""

from __future__ import annotations

from typing import NamedTuple

from transfer.models.legacy import Scale


class Network(NamedTuple):
    """What is known of a network.

    Attributes:
        side: pixels in a side of the images that its weights were trained on.
        scale: its preprocessing.
        body: how many numbers its weights are without its head.
        whole: the same with its head, of 1000 classes.
    """

    side: int
    scale: Scale
    body: int
    whole: int


NETWORKS = {
    "ResNet50": Network(224, "caffe", 23_587_712, 25_636_712),
    "ResNet101": Network(224, "caffe", 42_658_176, 44_707_176),
    "ResNet152": Network(224, "caffe", 58_370_944, 60_419_944),
    "VGG16": Network(224, "caffe", 14_714_688, 138_357_544),
    "VGG19": Network(224, "caffe", 20_024_384, 143_667_240),
    "ResNet50V2": Network(224, "-1-1", 23_564_800, 25_613_800),
    "ResNet101V2": Network(224, "-1-1", 42_626_560, 44_675_560),
    "ResNet152V2": Network(224, "-1-1", 58_331_648, 60_380_648),
    "MobileNet": Network(224, "-1-1", 3_228_864, 4_253_864),
    "MobileNetV2": Network(224, "-1-1", 2_257_984, 3_538_984),
    "NASNetMobile": Network(224, "-1-1", 4_269_716, 5_326_716),
    "InceptionResNetV2": Network(299, "-1-1", 54_336_736, 55_873_736),
    "InceptionV3": Network(299, "-1-1", 21_802_784, 23_851_784),
    "Xception": Network(299, "-1-1", 20_861_480, 22_910_480),
    "NASNetLarge": Network(331, "-1-1", 84_916_818, 88_949_818),
    "DenseNet121": Network(224, "torch", 7_037_504, 8_062_504),
    "DenseNet169": Network(224, "torch", 12_642_880, 14_307_880),
    "DenseNet201": Network(224, "torch", 18_321_984, 20_242_984),
    "MobileNetV3Large": Network(224, "inside", 2_996_352, 5_507_432),
    "MobileNetV3Small": Network(224, "inside", 939_120, 2_554_968),
    "EfficientNetB0": Network(224, "inside", 4_049_570, 5_330_570),
    "EfficientNetB1": Network(240, "inside", 6_575_238, 7_856_238),
    "EfficientNetB2": Network(260, "inside", 7_768_568, 9_177_568),
    "EfficientNetB3": Network(300, "inside", 10_783_534, 12_320_534),
    "EfficientNetB4": Network(380, "inside", 17_673_822, 19_466_822),
    "EfficientNetB5": Network(456, "inside", 28_513_526, 30_562_526),
    "EfficientNetB6": Network(528, "inside", 40_960_142, 43_265_142),
    "EfficientNetB7": Network(600, "inside", 64_097_686, 66_658_686),
    "EfficientNetV2B0": Network(224, "inside", 5_919_312, 7_200_312),
    "EfficientNetV2B1": Network(240, "inside", 6_931_124, 8_212_124),
    "EfficientNetV2B2": Network(260, "inside", 8_769_374, 10_178_374),
    "EfficientNetV2B3": Network(300, "inside", 12_930_622, 14_467_622),
    "EfficientNetV2S": Network(384, "inside", 20_331_360, 21_612_360),
    "EfficientNetV2M": Network(480, "inside", 53_150_388, 54_431_388),
    "EfficientNetV2L": Network(480, "inside", 117_746_848, 119_027_848),
}


def classes_of(network: Network, parameters: int) -> int | None:
    """How many classes the head of a network of so many weights has: 0 without a head, None if they do not fit."""
    if parameters in (network.body, network.whole):
        return 1000 * (parameters == network.whole)
    each, rest = divmod(network.whole - network.body, 1000)
    classes, left = divmod(parameters - network.body, each)
    return classes if left == rest == 0 < classes < 1000 else None  # VGG's head has layers of another size


def fitting(parameters: int) -> str:
    """The name of the network that has as many weights, by whatever head; empty if there is none."""
    known = {name: classes_of(network, parameters) for name, network in NETWORKS.items()}
    found = [(count not in (0, 1000), name) for name, count in known.items() if count is not None]
    return min(found, default=(True, ""))[1]
