"""The numbers that the Keras engine trains in: float32, or bfloat16 with weights, logits and loss in float32.

Mixed precision (Micikevicius et al. 2018) in bfloat16 needs no scaling of the loss. It is faster only where the
hardware multiplies bfloat16 faster than float32, which its flags tell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

Precision = Literal["float32", "mixed_bfloat16"]

ENOUGH = {  # by vendor, the flags of which one makes bfloat16 fast
    "AuthenticAMD": {"avx512_bf16"},  # a step takes 0.6 of its time in float32 (Zen 4, one thread)
    "GenuineIntel": {"amx_bf16"},  # with avx512_bf16 alone 1.3 times its time (Sapphire Rapids, one thread)
}
AMPERE = 8.0  # the first compute capability of NVIDIA with bfloat16


def choose(wanted: Precision | Literal["auto"]) -> Precision:
    """What a precision of `params.yaml` stands for here; the machine is looked at for `auto` alone."""
    return resolve(wanted, *processor(), accelerators()) if wanted == "auto" else wanted


def resolve(
    wanted: Precision | Literal["auto"], flags: Collection[str], vendor: str, accelerators: Collection[float]
) -> Precision:
    """What a precision stands for on a machine: `auto` is what is fast there, anything else is itself.

    Args:
        wanted: as in `params.yaml`.
        flags: instruction sets of the processor, as Linux names them.
        vendor: of the processor, as it names itself.
        accelerators: NVIDIA's compute capability of every GPU; where there is one, it trains, and the slowest decides.
    """
    if wanted != "auto":
        return wanted
    fast = min(accelerators) >= AMPERE if accelerators else bool(ENOUGH.get(vendor, set()) & set(flags))
    return "mixed_bfloat16" if fast else "float32"


def processor(path: Path = Path("/proc/cpuinfo")) -> tuple[set[str], str]:
    """Flags and vendor of the processor; nothing where Linux does not tell."""
    try:
        text = path.read_text()
    except OSError:
        return set(), ""
    known = dict(re.findall(r"^(\w+)\s*: *(.*)$", text, re.MULTILINE))
    return set(known.get("flags", "").split()), known.get("vendor_id", "")


def accelerators() -> list[float]:
    """The compute capability of every NVIDIA GPU that may be used, found without importing TensorFlow."""
    command = shutil.which("nvidia-smi")
    if not command or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    told = subprocess.run([command, "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True)
    return [float(line) for line in told.stdout.split()] if told.returncode == 0 else []


def computing_in(model: keras.Model, precision: Precision) -> keras.Model:
    """A model whose layers compute in a precision, and the last one in float32; weights are float32.

    Args:
        model: functional or sequential, float32; it stays as it is.
        precision: to compute in.

    Returns:
        The model itself for float32, otherwise a copy with weights of its own, in the same order.
    """
    if precision == "float32":
        return model
    from transfer.networks.backend import keras

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer is not model.layers[-1] and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = precision
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copy, recursive=True)
