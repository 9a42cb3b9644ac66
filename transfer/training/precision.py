"""The numbers that networks train in: float32, or bfloat16 with weights, logits and loss in float32.

Mixed precision (Micikevicius et al. 2018) in bfloat16 needs no scaling of the loss. It is faster only where the
hardware multiplies bfloat16 faster than float32, which its flags tell.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from transfer.models.backend import keras, tf
from transfer.params import Section

Precision = Literal["float32", "mixed_bfloat16"]

FAST = {  # by vendor of the processor, the flag that makes bfloat16 fast
    "AuthenticAMD": "avx512_bf16",  # a step takes 0.7 of its time in float32 (Zen 4, one thread)
    "GenuineIntel": "amx_bf16",  # with avx512_bf16 alone 1.3 times its time (Sapphire Rapids, one thread)
}
AMPERE = (8, 0)  # the first compute capability of NVIDIA with bfloat16


class Params(Section):
    """The `training` section."""

    precision: Literal["float32", "mixed_bfloat16", "auto"]

    @property
    def chosen(self) -> Precision:
        """The precision on this machine: `auto` is mixed_bfloat16 where that is fast."""
        if self.precision != "auto":
            return self.precision
        return "mixed_bfloat16" if is_fast(*processor(), capabilities()) else "float32"


def is_fast(flags: Collection[str], vendor: str, gpus: Collection[tuple[int, int]]) -> bool:
    """Whether a machine is fast in bfloat16.

    Args:
        flags: instruction sets of the processor, as Linux names them.
        vendor: of the processor, as it names itself.
        gpus: NVIDIA's compute capability of each; where there is one, it trains, and the slowest decides.
    """
    return min(gpus) >= AMPERE if gpus else FAST.get(vendor) in flags


def processor(path: Path = Path("/proc/cpuinfo")) -> tuple[set[str], str]:
    """Flags and vendor of the processor; nothing where Linux does not tell."""
    try:
        text = path.read_text()
    except OSError:
        return set(), ""
    known = dict(re.findall(r"^(\w+)\s*: *(.*)$", text, re.MULTILINE))
    return set(known.get("flags", "").split()), known.get("vendor_id", "")


def capabilities() -> list[tuple[int, int]]:
    """The compute capability of every visible GPU."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [found.get("compute_capability", (0, 0)) for found in details]


@contextmanager
def computing_in(model: keras.Model, precision: Precision) -> Iterator[None]:
    """Have all layers of a functional float32 model but the last compute in a precision, for what is traced inside."""
    layers = [layer for layer in model.layers[:-1] if not isinstance(layer, keras.layers.InputLayer)]
    for layer in layers:
        layer.dtype_policy = precision
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"
