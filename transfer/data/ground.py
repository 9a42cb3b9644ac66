"""Light and dark, background and content: what the outermost pixels of images tell."""

from __future__ import annotations

import numpy as np
from PIL import Image

DARK, LIGHT = 85, 170  # thirds of 0..255: a border is dark below the one and light above the other
SAMPLE = 1000  # images sampled to measure the brightness of borders, and how far content fills the frame
CONTENT = 32  # of 0..255: what differs more from the border is content, and not noise or compression


def border(height: int, width: int, thickness: int = 1) -> np.ndarray:
    """Which pixels are outermost, (height, width) bool."""
    outermost = np.ones((height, width), bool)
    outermost[thickness:-thickness, thickness:-thickness] = False
    return outermost


def background(grey: np.ndarray) -> np.ndarray:
    """The median of each image's border, (n,), of images in grey, (n, height, width)."""
    return np.median(grey[:, border(*grey.shape[1:])], axis=1)


def stroke_width(content: np.ndarray) -> float:
    """The mean width of strokes: twice their area by the length of their outline, which is the total variation.

    Args:
        content: how much of every pixel is content, (height, width), 0 to 1.
    """
    y, x = np.gradient(content)
    return float(2 * content.sum() / max(np.hypot(y, x).sum(), 1e-6))


def looks_inverted(*sides: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the images of one side have dark borders and those of the other light ones.

    Args:
        sides: of each, images, (n, height, width, channels) uint8, and rows of them, (m,); at most 1000, evenly
            spread, are looked at.
    """
    dark, light = sorted(float(_sample(*side)[:, border(*side[0].shape[1:3])].mean()) for side in sides)
    return dark < DARK and light > LIGHT


def filled(images: np.ndarray, rows: np.ndarray) -> float:
    """How far the content of images fills their frame: the median part of its height or width, whichever is larger.

    Content is the bounding box of what differs from the median colour of the border by more than `CONTENT`.

    Args:
        images: (n, height, width, channels) uint8.
        rows: of images, (m,); at most 1000, evenly spread, are looked at.
    """
    sample = _sample(images, rows)
    colour = np.median(sample[:, border(*sample.shape[1:3])], axis=1).astype(np.int16)
    content = (np.abs(sample - colour[:, None, None]) > CONTENT).any(axis=3)
    boxes = np.array([Image.fromarray(mask).getbbox() or (0, 0, 0, 0) for mask in content])  # left, upper, right, lower
    return float(np.median(((boxes[:, 2:] - boxes[:, :2]) / content.shape[:0:-1]).max(axis=1)))


def _sample(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return images[rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)]]
