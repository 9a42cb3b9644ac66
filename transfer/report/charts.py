"""The report's charts, drawn by Altair.

A chart is a list of panels, each small enough for a phone: the page lays them out by its width, its file in columns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from transfer.evaluation.comparison import Comparison
from transfer.evaluation.details import confusion, reliability_of, shown_classes
from transfer.evaluation.outcomes import Outcomes
from transfer.evaluation.selection import BASELINE
from transfer.report.pages import png_address
from transfer.report.words import per_class

# Okabe & Ito's palette, told apart by colour-blind readers too, and four more; dashes and shapes tell strategies apart
# in print. There are fewer shapes than colours, so a colour that returns has another shape.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7766FF", "#A65628", "#B00068", "#999933"]
DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3], [1, 3], [12, 2, 2, 2]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
GLYPHS = "●■▲◆✚▼▶◀"  # the same in text
INK, SOFT, GRID = "#24292f", "#8c959f", "#d0d7de"
ACCURACIES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9]
GAINS = [-100, -30, -10, -3, -1, -0.3, 0, 0.3, 1, 3, 10, 30, 100]
EFFORTS = [step * 10**power for power in range(16) for step in (1, 3)]
SIDE = 180  # pixels of small square panels
SHOWN = "shown"  # the parameter of a chart that holds the strategies to show
FILTER = f"indexof({SHOWN}, datum.strategy) >= 0"

Panel = alt.LayerChart | alt.FacetChart  # as Altair declares what `alt.layer` gives


@alt.theme.register("transfer", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    ink = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    config: Any = {
        "font": "system-ui, sans-serif",
        "background": "white",
        "axis": ink | {"titleFontWeight": "normal", "gridColor": GRID, "domainColor": SOFT, "tickColor": SOFT},
        "axisX": {"labelSeparation": 6},
        "axisY": {"titlePadding": 10},
        "legend": ink | {"orient": "bottom", "symbolOpacity": 1, "columnPadding": 20, "columns": 5},
        "title": {"fontSize": 13, "color": INK, "anchor": "start"},
        "view": {"stroke": GRID},
    }
    return {"config": config}


@dataclass(frozen=True)
class Chart:
    """A chart of the report.

    Attributes:
        name: of its file.
        description: what it shows, for those who do not see it.
        panels: its parts.
        columns: how many parts stand side by side where there is room.
        keyed: the strategies that are told apart by colour, if any: the page then has one key for all panels.
    """

    name: str
    description: str
    panels: list[Panel]
    columns: int = 1
    keyed: Sequence[str] = ()

    @cached_property
    def svg(self) -> str:
        """All panels as one picture, drawn without a browser and without a network."""
        whole = self.panels[0] if len(self.panels) == 1 else alt.concat(*self.panels, columns=self.columns)
        specification = json.dumps(whole.to_dict(), ensure_ascii=False)
        # Emoji are replaced: vl-convert fails where it shortens a text in the middle of one.
        return vl_convert.vegalite_to_svg(re.sub(r"[^\x00-\uffff]", "\ufffd", specification)) + "\n"

    def specifications(self) -> list[dict[str, Any]]:
        """Every panel in Vega-Lite, for the page: as wide as its place there, without a background."""
        panels = [panel.properties(width="container", background="transparent") for panel in self.panels]
        return [(panel.configure_legend(disable=True) if self.keyed else panel).to_dict() for panel in panels]


class Looks:
    """How each strategy looks in every chart."""

    def __init__(self, strategies: Sequence[str]) -> None:
        self.names = list(strategies)
        self.shown = alt.param(name=SHOWN, value=self.names)
        self.colour = self._channel(alt.Color, COLOURS)
        self.dash = self._channel(alt.StrokeDash, DASHES)
        self.shape = self._channel(alt.Shape, SHAPES)

    def _channel(self, channel: Any, looks: Sequence[Any]) -> Any:
        return channel("strategy:N", title=None, sort=self.names).scale(domain=self.names, range=looks)

    @property
    def key(self) -> list[dict[str, str]]:
        """Name, colour and glyph of every strategy, for the page."""
        looks = zip(self.names, cycle(COLOURS), cycle(GLYPHS), strict=False)
        return [{"name": name, "colour": colour, "glyph": glyph} for name, colour, glyph in looks]


def _in_percent(results: pd.DataFrame) -> pd.DataFrame:
    """A copy with fractions in %."""
    fractions = ["accuracy", "low", "high", "gain", "gain_margin"]
    return results[["strategy", "shots", "verdict", "effort", "on_front"]].join(100 * results[fractions])


def _tip(name: str, title: str, form: str = ".2f") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", title=title, format=form)


def learning_curves(comparison: Comparison, test_images: int) -> Chart:
    """Accuracy against labelled images per class, one line and band per strategy.

    The axis is a logarithmic one of the error, reversed: halving the error is as far everywhere.
    """
    looks = Looks(comparison.strategies)
    points = _in_percent(comparison.results)
    least = 100 * 0.5 / test_images  # stands for no error at all, which a logarithm does not know
    for error, accuracy in (("error", "accuracy"), ("error_low", "high"), ("error_high", "low")):
        points[error] = (100 - points[accuracy]).clip(lower=least)
    x = alt.X("shots:Q", title="labelled images per class, log scale").scale(type="log", nice=False)
    x = x.axis(values=comparison.shots, format=",")
    y = alt.Y("error:Q", title="accuracy on target test images, %; log scale of the error")
    y = y.scale(type="log", reverse=True, nice=False, padding=8)
    y = y.axis(values=[100 - value for value in ACCURACIES], labelExpr="format(100 - datum.value, '~')")
    intervals = [_tip("low", "95 % interval from, %"), _tip("high", "to, %")] if comparison.seeds > 1 else []
    tooltip = ["strategy:N", _tip("shots", "labels per class", ","), _tip("accuracy", "accuracy, %"), *intervals]
    base = alt.Chart(points).transform_filter(FILTER).encode(x=x, y=y, color=looks.colour)
    layers = [
        base.mark_line(strokeWidth=2).encode(strokeDash=looks.dash),
        base.mark_point(filled=True, size=55, opacity=1).encode(shape=looks.shape, tooltip=tooltip),
    ]
    if comparison.seeds > 1:
        one = len(comparison.shots) == 1  # one point spans no area
        band = base.mark_rule() if one else base.mark_area(opacity=min(0.16, 0.64 / len(comparison.strategies)))
        layers.insert(0, band.encode(y=alt.Y("error_low:Q"), y2="error_high:Q"))
    return Chart(
        "accuracy",
        "Learning curves: accuracy of every strategy against labelled images per class, with 95 % intervals.",
        [alt.layer(*layers).add_params(looks.shown).properties(width=640, height=380)],
        keyed=comparison.strategies,
    )


def gains(comparison: Comparison) -> Chart:
    """Paired gains over the baseline with corrected intervals; hollow where neither better nor worse."""
    looks = Looks(comparison.strategies)
    data = _in_percent(comparison.results).dropna(subset="gain")
    data["from"], data["to"] = data["gain"] - data["gain_margin"], data["gain"] + data["gain_margin"]
    x = alt.X("shots:O", title="labelled images per class", sort=comparison.shots).axis(labelAngle=0, format=",")
    y = alt.Y("gain:Q", title=f"gain over {BASELINE}, points; log scale both ways")
    y = y.scale(type="symlog", constant=0.3, nice=False, padding=8)
    y = y.axis(values=GAINS, labelExpr="datum.value == 0 ? '0' : format(datum.value, '+~')")
    tooltip: list[str | alt.Tooltip] = [
        "strategy:N",
        alt.Tooltip("shots:O", title="labels per class"),
        _tip("gain", "gain, points", "+.2f"),
    ]
    if comparison.seeds > 1:
        tooltip += [_tip("from", "from", "+.2f"), _tip("to", "to", "+.2f"), "verdict:N"]

    def layer(rows: pd.DataFrame) -> alt.Chart:
        offset = alt.XOffset("strategy:N", sort=looks.names)
        return alt.Chart(rows).transform_filter(FILTER).encode(x=x, xOffset=offset, y=y, color=looks.colour)

    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 4], color=SOFT).encode(y="zero:Q")
    layers = [zero, layer(data).mark_rule(strokeWidth=2).encode(y=alt.Y("from:Q"), y2="to:Q")]
    hollow = ~data["verdict"].isin(["better", "worse"])
    for rows, paint in ((data[hollow], {"fill": "white"}), (data[~hollow], {"filled": True})):  # page.css turns white
        if len(rows):
            marks = layer(rows).mark_point(size=70, opacity=1, strokeWidth=2, **paint)
            layers.append(marks.encode(shape=looks.shape, tooltip=tooltip))
    return Chart(
        "gains",
        f"Paired gains of every strategy over {BASELINE} with corrected intervals.",
        [alt.layer(*layers).add_params(looks.shown).properties(width=640, height=320)],
        keyed=comparison.transfers,
    )


def costs(comparison: Comparison) -> Chart:
    """Accuracy against the effort of training, a panel per budget, with the Pareto front."""
    looks = Looks(comparison.strategies)
    data = _in_percent(comparison.results)
    data["effort"] = data["effort"].clip(lower=1)
    x = alt.X("effort:Q", title="trained parameters × images seen")
    x = x.scale(type="log", nice=False, padding=12).axis(values=EFFORTS, format="~s", labelOverlap=True)
    y = alt.Y("accuracy:Q", title="accuracy, %").scale(zero=False)
    tooltip = [
        "strategy:N",
        _tip("accuracy", "accuracy, %"),
        _tip("effort", "parameters × images", ".3s"),
        alt.Tooltip("on_front:N", title="on the front"),
    ]
    panels: list[Panel] = []
    for shots in comparison.shots:
        rows = data[data["shots"] == shots]
        front = alt.Chart(rows[rows["on_front"]]).mark_line(interpolate="step-after", color=SOFT, strokeWidth=2)
        base = alt.Chart(rows).transform_filter(FILTER).encode(x=x, color=looks.colour)
        marks = base.mark_point(size=80, opacity=1, filled=True).encode(y=y, shape=looks.shape, tooltip=tooltip)
        intervals = base.mark_rule().encode(y=alt.Y("low:Q"), y2="high:Q")
        panel = alt.layer(front.encode(x=x, y=y), intervals, marks).add_params(looks.shown)
        panels.append(panel.properties(width=230, height=190, title=per_class(shots)))
    return Chart(
        "cost",
        "Accuracy against trained parameters times images seen, for every label budget, with the Pareto front.",
        panels,
        columns=3,
        keyed=comparison.strategies,
    )


def confusions(comparison: Comparison, outcomes: Outcomes) -> Chart:
    """Predicted against true classes, a panel per strategy; of very many classes some."""
    shown = shown_classes(outcomes, comparison.strategies, comparison.shown_shots)
    classes = [str(name) for name in outcomes.classes[shown]]
    labels: Any = {"labelOverlap": True, "labelLimit": 60}
    panels: list[Panel] = []
    for name in comparison.shown:
        shares = 100 * confusion(outcomes, name, comparison.shown_shots)[np.ix_(shown, shown)]
        grid = {"true": np.repeat(classes, len(classes)), "predicted": np.tile(classes, len(classes))}
        base = alt.Chart(pd.DataFrame(grid | {"share": shares.ravel()})).encode(
            x=alt.X("predicted:N", sort=classes, title="predicted").axis(labelAngle=0, **labels),
            y=alt.Y("true:N", sort=classes, title="true").axis(**labels),
        )
        colour = alt.Color("share:Q").scale(type="sqrt", domain=[0, 100], scheme="blues").legend(None)
        layers = [base.mark_rect().encode(color=colour)]
        if len(classes) <= 12:  # more do not fit
            ink = alt.condition("datum.share > 45", alt.value("white"), alt.value(INK))
            layers.append(base.mark_text(fontSize=11).encode(text=alt.Text("share:Q", format=".1f"), color=ink))
        panels.append(alt.layer(*layers).properties(width=SIDE, height=SIDE, title=name))
    return Chart("confusion", "Confusion matrices in % of the true class.", panels, columns=4)


def reliabilities(comparison: Comparison, outcomes: Outcomes) -> Chart:
    """Accuracy against confidence, before and after temperature scaling, a panel per strategy."""
    kinds = ["unscaled", "scaled"]
    colour = alt.Color("probabilities:N", title=None, sort=kinds).scale(domain=kinds, range=COLOURS[1::-1])
    shape = alt.Shape("probabilities:N", title=None, sort=kinds).scale(domain=kinds, range=["circle", "diamond"])
    panels: list[Panel] = []
    for name in comparison.shown:
        data = reliability_of(outcomes, name, comparison.shown_shots)
        data[["confidence", "accuracy"]] *= 100
        low = 10 * math.floor(data[["confidence", "accuracy"]].min().min() / 10)
        ticks = [low, (low + 100) / 2, 100]
        x = alt.X("confidence:Q", title="mean confidence, %").scale(domain=[low, 100]).axis(values=ticks)
        y = alt.Y("accuracy:Q", title="accuracy, %").scale(domain=[low, 100]).axis(values=ticks)
        ideal = alt.Chart(pd.DataFrame({"confidence": [low, 100], "accuracy": [low, 100]}))
        bins = alt.Chart(data).encode(x=x, y=y, color=colour)
        layers = [
            ideal.mark_line(color=SOFT, strokeDash=[4, 4]).encode(x=x, y=y),
            bins.mark_line(strokeWidth=1.5),
            bins.mark_point(filled=True, size=40, opacity=1).encode(shape=shape),
        ]
        panels.append(alt.layer(*layers).properties(width=SIDE, height=SIDE, title=name))
    return Chart(
        "reliability",
        "Reliability diagrams: accuracy against mean confidence in 15 bins of equal mass; equal on the dashed line.",
        panels,
        columns=4,
    )


def pictures(images: np.ndarray, captions: Sequence[str], notes: Sequence[str]) -> Chart:
    """Small images in rows of five, each with a caption.

    Args:
        images: (images, height, width, 1 or 3) uint8.
        captions: one each, of two lines.
        notes: what is said of each under the pointer, and to those who do not see it.
    """
    place = np.arange(len(images))
    data = pd.DataFrame({"url": list(map(png_address, images)), "caption": captions, "note": notes})
    data["column"], data["row"] = place % 5, place // 5
    base = alt.Chart(data).encode(
        x=alt.X("column:O", axis=None).scale(domain=list(range(5))), y=alt.Y("row:O", axis=None)
    )
    drawn = base.mark_image(width=56, height=56, smooth=False).encode(
        url="url:N", tooltip="note:N", description="note:N"
    )
    said = base.mark_text(dy=38, fontSize=11, limit=84, lineBreak="\n").encode(text="caption:N")
    chart = alt.layer(drawn, said).properties(width=420, height=120 * (place[-1] // 5 + 1))
    return Chart("errors", "Test images that most trainings get wrong.", [chart])
