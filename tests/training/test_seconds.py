"""Seconds of training and prediction: measured for every run, remembered with it, and in nothing that DVC keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from small_runs import TARGET, fake_export, fake_run, study

from transfer.data.predictions import Predictions
from transfer.data.target import Draw
from transfer.models.features import Features
from transfer.strategies import feature_extraction, prototypes
from transfer.training.cache import RunCache
from transfer.training.compute import run_in_threads
from transfer.training.runs import Run, train_runs


def fit(draws: Sequence[Draw], longer: float) -> Iterator[Run]:
    """Fake runs that took some seconds more than a fake run says."""
    for run in map(fake_run, draws):
        yield replace(run, train_seconds=run.train_seconds + longer)


def trained(name: str, longer: float = 0) -> Predictions:
    cache = RunCache(partial(fit, strategy=name), 10)
    return train_runs(name, partial(fit, longer=longer), fake_export, TARGET, cache=cache, made={})


def test_the_page_gets_medians_over_draws_and_dvc_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = trained("a")
    predict = round(250 / len(fake_run(TARGET.draw(1, 0)).probabilities), 6)  # for 1,000 images
    a, b = ({"1": [1.05 + longer, predict], "2": [2.05 + longer, predict]} for longer in (0, 3))
    for name, expected in (("a", {"a": a}), ("b", {"a": a, "b": b})):  # those of `a` are remembered
        again = trained(name, longer=3)
        same = {**vars(first), "made_with": again.made_with}  # which names the model, and so the strategy
        assert all(getattr(again, key).tobytes() == array.tobytes() for key, array in same.items())
        assert Path("results/seconds.js").read_text() == f"window.SECONDS = {json.dumps(expected)};\n"


def test_every_kind_of_strategy_measures_its_runs() -> None:
    target, starts = study()
    features = Features(*[target.images.reshape(len(target.images), -1).astype(np.float32)] * 2)
    params = feature_extraction.Params(
        layer="", l2=(0.01, 1.0), l2_default=0.1, folds=3, enough_held_out=500, max_iterations=200, tolerance=1e-4
    )
    draws = target.runs()
    began = perf_counter()
    kinds = [
        list(run_in_threads(starts("dense_head"), draws, 1)),
        list(feature_extraction.fit(draws, features=features, params=params)),
        list(prototypes.fit(draws, features=features)),
    ]
    whole = perf_counter() - began
    assert all(run.train_seconds > 0 < run.predict_seconds for runs in kinds for run in runs)
    assert sum(run.train_seconds + run.predict_seconds for runs in kinds for run in runs) < whole
