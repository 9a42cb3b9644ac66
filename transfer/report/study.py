"""All that the report is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from transfer.evaluation.comparison import Comparison
from transfer.evaluation.outcomes import Outcomes, Probes


@dataclass(frozen=True)
class Study:
    """All that the report is made from.

    Attributes:
        comparison: of the strategies.
        runs: a row per run.
        outcomes: the runs, image by image.
        probes: of the layers.
        test_images: (test images, height, width, channels) uint8.
        source: facts of the source model: its accuracy on held-out images, its classes, what it was made with.
        data: what source and target are made of.
        replicates: of the bootstrap.
    """

    comparison: Comparison
    runs: pd.DataFrame
    outcomes: Outcomes
    probes: Probes
    test_images: np.ndarray
    source: dict[str, Any]
    data: dict[str, Any]
    replicates: int

    @property
    def made_with(self) -> dict[str, Any]:
        """Parameters and versions of every strategy."""
        return json.loads(str(self.outcomes.made_with))
