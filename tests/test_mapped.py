from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from transfer.basics.console import UserError
from transfer.mapped import Mapped, write_side_by_side

ARRAY = np.random.default_rng(0).normal(size=(1000, 30)).astype(np.float32)


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    np.save(tmp_path / "a.npy", ARRAY)
    return Mapped(tmp_path / "a.npy")


def test_rows_are_those_of_the_file(mapped: Mapped) -> None:
    assert (len(mapped), mapped.shape) == (1000, (1000, 30))
    for rows in (slice(3, 7), slice(None), np.array([5, 2, 2])):
        assert (mapped[rows] == ARRAY[rows]).all()
        assert type(mapped[rows]) is np.ndarray


def test_another_process_is_sent_the_path_and_not_the_array(mapped: Mapped) -> None:
    mapped[:].sum()  # nor after it was read
    sent = pickle.dumps(mapped)
    assert len(sent) < 1000
    assert (pickle.loads(sent)[:] == ARRAY).all()


def test_a_file_that_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(UserError, match=r"a\.npy is missing: `dvc repro` makes it"):
        len(Mapped(path))
    np.save(path, ARRAY)
    whole = path.read_bytes()
    np.save(path, np.array([{}], dtype=object))
    for wrong in (b"", b"<html>503</html>", whole[:-1], path.read_bytes()):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"a\.npy cannot be read") as caught:
            Mapped(path)[:5]
        assert "\n" not in str(caught.value)


def test_arrays_written_batch_by_batch_have_the_bytes_of_arrays_saved_whole(tmp_path: Path) -> None:
    images = (ARRAY[:, :16] * 9).astype(np.uint8).reshape(1000, 2, 2, 4)
    batches = ((ARRAY[start : start + 300], images[start : start + 300]) for start in range(0, 1000, 300))
    write_side_by_side(tmp_path, ["a", "b"], batches, 1000)
    for name, array in (("a", ARRAY), ("b", images)):
        whole = io.BytesIO()
        np.save(whole, array)
        assert (tmp_path / f"{name}.npy").read_bytes() == whole.getvalue()
