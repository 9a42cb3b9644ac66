"""Images as text that can stand in a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def png_address(image: np.ndarray) -> str:
    """An image as a `data:` address.

    Args:
        image: (height, width, 1 or 3) uint8.
    """
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
