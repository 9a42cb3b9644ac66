"""Hostile names of classes through a whole study: they are names and no more."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_study
from markdown_it import MarkdownIt
from PIL import Image

NAMES = [
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    'it\'s "so" «said»',
    "&amp;",
    "a|b",
    "\u202etxt.exe",  # turns text round
    "-rf",
    "=cmd|' /C calc'!A0",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "x" * 200,
    "Cat",
    "cat",
    "\u00e9",
    "../../etc/passwd",
    "{{7*7}}",
    "NaN",
    "__proto__",
]


@pytest.mark.slow
def test_hostile_names_of_classes_are_names_and_no_more(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    (study.root / "own").mkdir()
    rows = []
    for label, name in enumerate(NAMES):
        for number in range(4):
            pixels = np.random.default_rng((label, number)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(study.root / f"own/{label}-{number}.png")
            rows.append((f"{label}-{number}.png", name))
    with (study.root / "own/labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    study.set(data__target__name="folder", data__target__path="own", data__target__classes="all")
    study.set(split__shots=[1, 3], split__test=0.25)
    for name in ("dense_head", "end_to_end"):  # two strategies are enough
        study.edit_yaml("dvc.yaml", lambda content, name=name: content["stages"].pop(name))
    study.repro()

    classes = json.loads(study.read("data/about.json"))["target"]["classes"]
    assert classes == sorted(NAMES)
    markdown = MarkdownIt().enable("table")  # which lets HTML through
    for file in ("results/report.md", "models/best.md"):
        assert not re.search("<script|<img[^>]*onerror", markdown.render(study.read(file).decode()))
    assert b"<script>window.hacked" not in study.read("results/report.html")
    predict = (sys.executable, "-m", "transfer.cli", "predict", "own/0-0.png")
    answers = json.loads(study.run(*predict, "--json", "--top", "99").stdout)["files"][0]
    assert sorted(each["class"] for each in answers["predictions"]) == classes
    assert all(line.isprintable() for line in study.run(*predict).stdout.splitlines())
