"""Declared looks, the whole way: who is out gets no further draw, who goes on does, with those that it learns from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd
from conftest import Study, copy_of
from reports import check_numbers

from transfer.evaluation.outcomes import Correct
from transfer.files import read_record

RUN = ["feature_extraction", "label_propagation", "self_training", "scratch"]
STAGES = """
import sys
from importlib import import_module
from pathlib import Path
import joblib
from stages import choose, evaluate, further, report, split
from stages.strategy import run_strategy
split.main()
choose.main()
for name in sys.argv[1:]:
    run_strategy(import_module(f"transfer.strategies.{name}"))
for stage in (further, further, evaluate, report):
    stage.main()
    if stage is further:
        print("bytes", joblib.hash([path.read_bytes() for path in sorted(Path("data/further").rglob("*.npz"))]))
"""


def test_draws_are_added_to_what_a_look_leaves_undecided(finished: Study, tmp_path: Path) -> None:
    """Run in one process, without DVC, to save time."""
    study = copy_of(finished, tmp_path / "study")
    for file in (study.root / "data/predictions").iterdir():
        file.unlink()
    study.set(split__looks=[2, 3, 4], self_training__shift=0)
    printed = study.run(sys.executable, "-c", STAGES, *RUN).stdout
    first, second = (part.splitlines()[0] for part in printed.split("bytes ")[1:])
    assert first == second
    said = [line for line in printed.splitlines() if line.startswith("further: ")]
    assert said[0] == said[2]
    going = re.fullmatch(r"further: look at 2 draws: (\d+) of 12 go on to 3", said[0])
    assert going
    assert 0 < int(going[1]) < 12
    cells = pd.read_csv(study.root / "results/cells.csv")
    draws = cells.groupby(["strategy", "shots"])["seed"].agg(["count", "max"])
    assert (draws["count"] == draws["max"] + 1).all()
    assert sorted({*draws["count"]}) == [2, 3, 4]
    count = draws["count"]
    assert (count["self_training"] <= count["label_propagation"]).all()  # its teacher

    correct = read_record(study.root / "results/correct.npz", Correct)
    assert correct.looks.tolist() == [2, 3, 4]
    page = study.read("results/report.md").decode()
    assert f"{len(cells)} of 48 trainings" in page
    assert "Means of 2 to 4 label draws" in page
    assert "only the evaluation reads them, and each look" in page
    assert check_numbers(page, cells) > 100
