"""What training images look like, kept with a model: what is unlike them is told, what is like them is not."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_models import PREPROCESSING, bars, write_familiar, write_sides
from threadpoolctl import threadpool_limits

from transfer.data.target import Target
from transfer.models.familiarity import LEAST, Familiarity, read_familiarity
from transfer.models.metadata import read_metadata, write_metadata
from transfer.serve.models import open_model, unfamiliar
from transfer.training.cache import RunCache
from transfer.training.runs import Run, train_runs


def doubted(path: Path, images: np.ndarray) -> list[list[str]]:
    _, p_values, doubts = open_model(path).answer(images)
    return [[*words, *unfamiliar([p_value])] for p_value, words in zip(p_values, doubts, strict=True)]


def test_what_is_unlike_the_training_images_is_told_by_kind(tmp_path: Path) -> None:
    path = write_familiar(tmp_path / "x.keras")
    lying = bars(2).transpose(0, 2, 1, 3)
    images = np.concatenate([lying, 255 - bars(1), np.full_like(lying[:1], 3), bars(1) // 2 + 40])
    kinds = ("on a light background", "nearly blank", "on another background", "farther from every class than 95%")
    told = [[any(words.startswith(kind) for words in each) for kind in kinds] for each in doubted(path, images)]
    light, blank, other = np.eye(3, dtype=bool).tolist()
    assert [each[:3] for each in told] == [[False] * 3, [False] * 3, light, blank, other]
    assert [each[3] for each in told[:3]] == [True] * 3
    assert sum(map(bool, doubted(path, bars(1000, seed=1)))) <= 80  # of 1,000, where 50 are to be expected


def test_what_moves_a_network_little_is_not_familiar_for_that(tmp_path: Path) -> None:
    """Faint, what is foreign would seem near to images that differ most in brightness."""
    path, images = write_sides(tmp_path / "x.keras"), bars(400)
    parts = np.random.default_rng(0).uniform(0.1, 1, (400, 1, 1, 1))
    known = Familiarity.of(path, (images * parts).astype(np.uint8), np.zeros(0, int))
    write_metadata(path, read_metadata(path), known)
    assert all("farther" in " ".join(each) for each in doubted(path, bars(20).transpose(0, 2, 1, 3) // 8))


def test_the_number_of_threads_changes_no_bit(tmp_path: Path) -> None:
    path = write_sides(tmp_path / "x.keras", preprocessing=replace(PREPROCESSING, height=28, width=28))
    images = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1), np.uint8)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            known = Familiarity.of(path, images, np.zeros(0, int))
        assert known is not None
        found.append([each.tobytes() for each in astuple(known)])
    assert found[0] == found[1]


def test_what_a_network_was_fitted_to_tells_nothing_while_there_are_others(tmp_path: Path) -> None:
    path, images = write_sides(tmp_path / "x.keras"), bars(2 * LEAST)
    fitted = np.arange(LEAST)
    found = Familiarity.of(path, images, fitted)
    assert found is not None
    images[fitted] = 0
    again = Familiarity.of(path, images, fitted)
    assert again is not None
    assert all(np.array_equal(a, b) for a, b in zip(astuple(found), astuple(again), strict=True))
    assert Familiarity.of(path, images[: LEAST - 1], fitted[:0]) is None


def test_a_network_that_gives_the_same_for_all_images_has_finite_distances(tmp_path: Path) -> None:
    path = write_sides(tmp_path / "x.keras")
    found = Familiarity.of(path, np.full((LEAST, *PREPROCESSING.shape), 7, np.uint8), np.zeros(0, int))
    assert found is not None
    assert all(np.isfinite(each).all() for each in astuple(found))


def test_it_stands_in_the_file_in_the_same_bytes_and_one_without_it_can_be_read(tmp_path: Path) -> None:
    path = write_familiar(tmp_path / "x.keras")
    kept = path.read_bytes()
    write_metadata(path, read_metadata(path), read_familiarity(path))
    assert path.read_bytes() == kept
    write_metadata(path, read_metadata(path))
    assert read_familiarity(path) is None


def test_the_model_of_every_strategy_gets_it_from_images_that_it_was_not_fitted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = bars(100)
    draws = np.arange(8).reshape(1, 8)
    rows = np.array([[90, 92], [91, 93]], np.int32)
    names, text = np.array(["left", "right"]), np.array(PREPROCESSING.to_text())
    target = Target(images, names, draws, draws % 2, np.array([[4, 0]]), rows, text)
    images[draws.ravel()] = 255  # would make contrast and background others
    run = Run(np.full((200, 2), 0.5, np.float32), [], 0, 0, 0, train_seconds=0, predict_seconds=0)

    def export(_: list[np.ndarray], path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        write_sides(path)

    cache = RunCache(partial(write_sides), 0)
    train_runs("x", lambda draws: iter([run] * len(draws)), export, target, cache=cache, made={})
    found = read_familiarity(Path("models/x.keras"))
    assert found is not None
    assert found.background.max() == 0
    assert found.contrast.min() > 50
    assert found.filled == pytest.approx(10 / 14)
