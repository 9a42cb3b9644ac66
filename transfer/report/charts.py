"""The report's charts as Vega-Lite specifications, and as SVG text drawn without a browser and without a network.

A chart is a list of panels, each small enough for a phone: the page lays them out by its width, its file in columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from transfer.evaluation.comparison import Comparison, Result, confusion, reliability_of, shown_classes
from transfer.evaluation.outcomes import Outcomes
from transfer.evaluation.selection import BASELINE
from transfer.report.blocks import Details, Pictures, Section
from transfer.report.words import per_class

# Okabe & Ito's palette, told apart by colour-blind readers too; dashes and shapes tell strategies apart in print.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
GLYPHS = "●■▲◆✚▼"  # the same in text
INK, GRID = "#24292f", "#d0d7de"
ACCURACIES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9]
SIDE = 180  # pixels of small square panels
SHOWN = "shown"  # the parameter of a specification that holds the strategies to show

Panel = alt.Chart | alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Chart:
    """A chart of the report.

    Attributes:
        name: of its file.
        description: what it shows, for those who do not see it.
        panels: its parts.
        columns: how many parts stand side by side where there is room.
        live: whether the page draws it anew, with numbers under the pointer.
        keyed: the strategies that are told apart by colour, if any: the page then has one key for all panels.
    """

    name: str
    description: str
    panels: list[Panel]
    columns: int = 1
    live: bool = False
    keyed: Sequence[str] = ()

    def whole(self) -> str:
        """All panels as one specification, as text for `vega.svg`."""
        if len(self.panels) == 1:
            [whole] = self._plain
        else:
            whole = _specification(alt.concat(*self.panels, columns=self.columns))
        return json.dumps(_in_looks(whole, LEGEND) | {"background": "white"})

    def parts(self) -> list[str]:
        """The same for every panel, on a transparent ground."""
        return [json.dumps(_in_looks(panel, self._legend)) for panel in self._plain]

    def placed(self, pictures: Iterable[str]) -> list[str]:
        """The pictures of all parts, with identifiers that are unique in the page."""
        return [
            picture.replace('id="', f'id="{self.name}{i}-').replace("url(#", f"url(#{self.name}{i}-")
            for i, picture in enumerate(pictures)
        ]

    def specifications(self) -> list[dict[str, Any]]:
        """Every panel as a specification that fills the width it gets."""
        return [_in_looks(panel, self._legend) | {"width": "container"} for panel in self._plain]

    @cached_property
    def _plain(self) -> list[dict[str, Any]]:
        """Every panel as a specification, made once for all pictures of it."""
        return [_specification(panel) for panel in self.panels]

    @property
    def _legend(self) -> dict[str, Any]:
        """Of a panel on the page."""
        return {"disable": True} if self.keyed else LEGEND


LEGEND = {"orient": "bottom", "labelFontSize": 12, "labelColor": INK, "titleColor": INK, "symbolOpacity": 1}
THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": "#8c959f",
        "tickColor": "#8c959f",
        "gridOpacity": 0.6,
    },
    "title": {"fontSize": 13, "color": INK, "anchor": "start", "fontWeight": "bold"},
}


def _specification(panel: Panel | alt.ConcatChart) -> dict[str, Any]:
    """A chart as Vega-Lite; not validated, which would take as long as drawing it."""
    return panel.to_dict(validate=False)


def _in_looks(specification: dict[str, Any], legend: dict[str, Any]) -> dict[str, Any]:
    """A specification in the looks of the report."""
    view = specification.get("config", {}).get("view", {}) | {"stroke": GRID}
    return specification | {"config": THEME | {"legend": legend, "view": view}}


class Looks:
    """How each strategy looks in every chart."""

    def __init__(self, strategies: Sequence[str]) -> None:
        self.names = list(strategies)

    def _scale(self, looks: list[Any]) -> dict[str, Any]:
        return {"domain": self.names, "range": [looks[i % len(looks)] for i in range(len(self.names))]}

    def colour_of(self, name: str) -> str:
        """A strategy's colour, as in `#0072B2`."""
        return COLOURS[self.names.index(name) % len(COLOURS)]

    def glyph_of(self, name: str) -> str:
        """A strategy's shape as a character."""
        return GLYPHS[self.names.index(name) % len(GLYPHS)]

    def colour(self) -> alt.Color:
        """The channel that tells strategies apart by colour."""
        return alt.Color("strategy:N", title=None, sort=self.names).scale(**self._scale(COLOURS))

    def dash(self) -> alt.StrokeDash:
        """The same by dashes."""
        return alt.StrokeDash("strategy:N", title=None, sort=self.names).scale(**self._scale(DASHES))

    def shape(self) -> alt.Shape:
        """The same by shapes."""
        return alt.Shape("strategy:N", title=None, sort=self.names).scale(**self._scale(SHAPES))


def _shown(looks: Looks) -> alt.Parameter:
    return alt.param(name=SHOWN, value=looks.names)


FILTER = f"indexof({SHOWN}, datum.strategy) >= 0"


def _error_scale(errors: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """An axis of accuracy on which halving the error is as far everywhere: a logarithmic one of the error, reversed."""
    low, high = min(errors) * 0.9, min(100.0, max(errors) * 1.1)
    ticks = [round(100 - value, 3) for value in ACCURACIES if low <= 100 - value <= high]
    scale = alt.Scale(type="log", reverse=True, domain=[low, high], nice=False)
    return scale, alt.Axis(values=ticks, labelExpr="format(100 - datum.value, '~')")


def _accuracies(results: Sequence[Result]) -> pd.DataFrame:
    """Accuracies in % with the ends of their intervals, NaN where there is none."""
    rows = [
        {
            "strategy": result.strategy,
            "shots": result.shots,
            **dict(zip(("accuracy", "from", "to"), result.possible, strict=True)),
        }
        for result in results
    ]
    numbers = {"accuracy": float, "from": float, "to": float}
    table = pd.DataFrame(rows).astype(numbers)
    table[list(numbers)] *= 100
    return table


def learning_curves(comparison: Comparison, test_images: int) -> Chart:
    """Accuracy against labelled images per class, one line and band per strategy."""
    least = 100 * 0.5 / test_images  # stands for no error at all, which a logarithm does not know
    looks = Looks(comparison.strategies)
    points = _accuracies(list(comparison.results.values()))
    for error, accuracy in (("error", "accuracy"), ("high", "from"), ("low", "to")):
        points[error] = (100 - points[accuracy]).clip(lower=least)
    errors = points[["error", "high", "low"]].to_numpy()
    scale, axis = _error_scale(errors[~np.isnan(errors)].tolist())
    base = alt.Chart(points).transform_filter(FILTER)
    x = alt.X("shots:Q", title="labelled images per class, log scale").scale(type="log", nice=False)
    x = x.axis(values=comparison.shots, format=",")
    y = alt.Y("error:Q", title="accuracy on target test images, %; log scale of the error", scale=scale, axis=axis)
    tooltip = [
        alt.Tooltip("strategy:N"),
        alt.Tooltip("shots:Q", title="labels per class", format=","),
        *(alt.Tooltip(f"{name}:Q", title=f"{title}, %", format=".2f") for name, title in _interval_titles(comparison)),
    ]
    layers = []
    if comparison.seeds > 1:
        one = len(comparison.shots) == 1  # one point spans no area
        mark = base.mark_rule() if one else base.mark_area(opacity=0.16)
        layers.append(mark.encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=looks.colour()))
    layers.append(base.mark_line(strokeWidth=2).encode(x=x, y=y, color=looks.colour(), strokeDash=looks.dash()))
    layers.append(
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, y=y, color=looks.colour(), shape=looks.shape())
    )
    layers.append(base.mark_point(filled=True, size=500, opacity=0).encode(x=x, y=y, tooltip=tooltip))  # easy to hit
    chart = alt.layer(*layers).add_params(_shown(looks)).properties(width=640, height=380)
    return Chart(
        "accuracy",
        "Learning curves: accuracy of every strategy against labelled images per class, with 95 % intervals; "
        "the table below has the numbers.",
        [chart],
        live=True,
        keyed=comparison.strategies,
    )


def _interval_titles(comparison: Comparison) -> list[tuple[str, str]]:
    ends = [("from", "95 % interval from"), ("to", "to")] if comparison.seeds > 1 else []
    return [("accuracy", "accuracy"), *ends]


def gains(comparison: Comparison) -> Chart:
    """Paired gains over the baseline with corrected intervals; hollow where not separated."""
    looks = Looks(comparison.strategies)
    rows = [
        {
            "strategy": result.strategy,
            "shots": result.shots,
            "gain": 100 * pair.difference.mean,
            "low": None if pair.corrected.low is None else 100 * pair.corrected.low,
            "high": None if pair.corrected.high is None else 100 * pair.corrected.high,
            "verdict": pair.verdict or "one draw",
        }
        for result in comparison.results.values()
        if (pair := result.gain)
    ]
    data = pd.DataFrame(rows).astype({"low": float, "high": float})
    ends = data[["gain", "low", "high"]].abs().max().max()
    reach = 10 ** math.ceil(math.log10(max(ends, 1)))
    ticks = sorted(
        {sign * step * 10**power for sign in (-1, 1) for power in range(3) for step in (1, 3)} | {0, 0.3, -0.3}
    )
    x = alt.X("shots:O", title="labelled images per class", sort=comparison.shots).axis(labelAngle=0, format=",")
    offset = alt.XOffset("strategy:N", sort=looks.names)
    scale = alt.Scale(type="symlog", constant=0.3, domain=[-min(reach, ends * 1.1), min(reach, ends * 1.1)], nice=False)
    y = alt.Y(
        "gain:Q",
        title=f"gain over {BASELINE}, percentage points (log scale both ways)",
        scale=scale,
        axis=alt.Axis(
            values=[tick for tick in ticks if abs(tick) <= ends * 1.1],
            labelExpr="datum.value == 0 ? '0' : format(datum.value, '+~')",
        ),
    )
    tooltip = [
        alt.Tooltip("strategy:N"),
        alt.Tooltip("shots:O", title="labels per class", format=","),
        alt.Tooltip("gain:Q", title="gain, points", format="+.2f"),
        *(
            [alt.Tooltip("low:Q", title="from", format="+.2f"), alt.Tooltip("high:Q", title="to", format="+.2f")]
            if comparison.seeds > 1
            else []
        ),
        alt.Tooltip("verdict:N"),
    ]
    base = alt.Chart(data).transform_filter(FILTER)
    zero = (
        alt.Chart(pd.DataFrame({"zero": [0]}))
        .mark_rule(strokeDash=[4, 4], color="#8c959f")
        .encode(y=alt.Y("zero:Q", scale=scale))
    )
    whiskers = base.mark_rule(strokeWidth=2).encode(
        x=x, xOffset=offset, y=alt.Y("low:Q", scale=scale), y2="high:Q", color=looks.colour()
    )
    separated = data["verdict"] != "not separated"
    marks = [
        alt.Chart(rows_of)
        .transform_filter(FILTER)
        .mark_point(size=70, opacity=1, strokeWidth=2, **paint)
        .encode(x=x, xOffset=offset, y=y, color=looks.colour(), shape=looks.shape(), tooltip=tooltip)
        for rows_of, paint in ((data[separated], {"filled": True}), (data[~separated], {"fill": "white"}))
        if len(rows_of)
    ]
    layers = [zero, whiskers, *marks] if comparison.seeds > 1 else [zero, *marks]
    chart = alt.layer(*layers).add_params(_shown(looks)).properties(width=640, height=320)
    return Chart(
        "gains",
        f"Paired gains of every strategy over {BASELINE} with corrected intervals; the table below has the numbers.",
        [chart],
        live=True,
        keyed=comparison.transfers,
    )


def costs(comparison: Comparison) -> Chart:
    """Accuracy against the effort of training, a panel per budget, with the Pareto front."""
    looks = Looks(comparison.strategies)
    panels: list[Panel] = []
    for shots in comparison.shots:
        results = comparison.at(shots)
        data = _accuracies(results)
        data["effort"] = [max(result.effort, 1) for result in results]
        data["front"] = ["yes" if result.on_front else "no" for result in results]
        front = data[data["front"] == "yes"].sort_values("effort")
        powers = range(
            math.floor(math.log10(data["effort"].min() / 2)), math.ceil(math.log10(data["effort"].max() * 2)) + 1
        )
        decades = [10**power for power in powers]
        x = alt.X("effort:Q", title="trained parameters × images seen")
        x = x.scale(type="log", nice=False, domain=[decades[0], decades[-1]])
        x = x.axis(values=decades, format="~s", labelOverlap=True)
        y = alt.Y("accuracy:Q", title="accuracy, %").scale(zero=False, nice=True)
        tooltip = [
            alt.Tooltip("strategy:N"),
            alt.Tooltip("accuracy:Q", title="accuracy, %", format=".2f"),
            alt.Tooltip("effort:Q", title="parameters × images", format=".3s"),
            alt.Tooltip("front:N", title="on the front"),
        ]
        line = alt.Chart(front).mark_line(interpolate="step-after", color="#8c959f", strokeWidth=2).encode(x=x, y=y)
        base = alt.Chart(data).transform_filter(FILTER)
        marks = base.mark_point(size=80, opacity=1, filled=True).encode(
            x=x, y=y, color=looks.colour(), shape=looks.shape(), tooltip=tooltip
        )
        layers = [line, marks]
        if comparison.seeds > 1:
            whiskers = base.mark_rule().encode(x=x, y=alt.Y("from:Q"), y2="to:Q", color=looks.colour())
            layers.insert(1, whiskers)
        panel = alt.layer(*layers).add_params(_shown(looks))
        panels.append(panel.properties(width=230, height=190, title=per_class(shots)))
    return Chart(
        "cost",
        "Accuracy against trained parameters times images seen, for every number of labels; "
        "a grey line, the Pareto front, joins the strategies that none beats in both.",
        panels,
        columns=3,
        live=True,
        keyed=comparison.strategies,
    )


def confusions(comparison: Comparison, outcomes: Outcomes) -> Chart:
    """What the images of each class are taken for, a panel per strategy; of very many classes some."""
    shown = shown_classes(outcomes, comparison.strategies, comparison.shown_shots)
    classes = [str(name) for name in outcomes.classes[shown]]
    panels: list[Panel] = []
    for name in comparison.strategies:
        shares = confusion(outcomes, name, comparison.shown_shots)[np.ix_(shown, shown)]
        cells = pd.DataFrame(
            [
                {"true": true, "predicted": predicted, "share": None if np.isnan(share) else 100 * share}
                for true, row in zip(classes, shares, strict=True)
                for predicted, share in zip(classes, row, strict=True)
            ]
        ).astype({"share": float})
        base = alt.Chart(cells).encode(
            x=alt.X("predicted:N", sort=classes, title="taken for").axis(labelAngle=0, labelOverlap=True),
            y=alt.Y("true:N", sort=classes, title="is").axis(labelOverlap=True),
        )
        colour = alt.Color("share:Q").scale(type="sqrt", domain=[0, 100], scheme="blues").legend(None)
        layers = [base.mark_rect().encode(color=colour)]
        if len(classes) <= 12:  # more do not fit
            ink = alt.condition("datum.share > 45", alt.value("white"), alt.value("#24292f"))
            layers.append(base.mark_text(fontSize=11).encode(text=alt.Text("share:Q", format=".1f"), color=ink))
        panels.append(alt.layer(*layers).properties(width=SIDE, height=SIDE, title=name))
    return Chart(
        "confusion",
        "Confusion matrices in % of the true class; the table of recalls has the diagonals.",
        panels,
        columns=4,
    )


def reliabilities(comparison: Comparison, outcomes: Outcomes) -> Chart:
    """Accuracy against confidence, as given and temperature-scaled, a panel per strategy."""
    panels: list[Panel] = []
    kinds = ["as given", "temperature-scaled"]
    for name in comparison.strategies:
        data = reliability_of(outcomes, name, comparison.shown_shots)
        data["probabilities"] = np.where(data.pop("scaled"), "temperature-scaled", "as given")
        data[["confidence", "accuracy"]] *= 100
        low = 10 * math.floor(data[["confidence", "accuracy"]].min().min() / 10)
        scale = alt.Scale(domain=[low, 100])
        x = alt.X("confidence:Q", title="mean confidence, %", scale=scale)
        y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
        ideal = alt.Chart(pd.DataFrame({"confidence": [low, 100], "accuracy": [low, 100]}))
        colour = alt.Color("probabilities:N", title=None, sort=kinds).scale(domain=kinds, range=["#D55E00", "#0072B2"])
        shape = alt.Shape("probabilities:N", title=None, sort=kinds).scale(domain=kinds, range=["circle", "diamond"])
        bins = alt.Chart(data).encode(x=x, y=y, color=colour)
        layers = [
            ideal.mark_line(color="#8c959f", strokeDash=[4, 4]).encode(x=x, y=y),
            bins.mark_line(strokeWidth=1.5),
            bins.mark_point(filled=True, size=40, opacity=1).encode(shape=shape),
        ]
        panels.append(alt.layer(*layers).properties(width=SIDE, height=SIDE, title=name))
    return Chart(
        "reliability",
        "Reliability diagrams: accuracy against mean confidence in 15 bins of equal mass; on the dashed line the "
        "two agree. The table of calibration has the errors.",
        panels,
        columns=4,
    )


def pictures(images: Sequence[str], captions: Sequence[str]) -> Chart:
    """Small images in rows, each with a caption.

    Args:
        images: as `data:` addresses.
        captions: one each.
    """
    columns, side = 8, 74
    data = pd.DataFrame(
        {
            "url": list(images),
            "caption": list(captions),
            "column": [i % columns for i in range(len(images))],
            "row": [i // columns for i in range(len(images))],
        }
    )
    rows = int(data["row"].max()) + 1
    base = alt.Chart(data).encode(
        x=alt.X("column:O", axis=None, scale=alt.Scale(domain=list(range(columns)))),
        y=alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.35, paddingOuter=0.2)),
    )
    drawn = base.mark_image(width=side - 18, height=side - 18, smooth=False).encode(url="url:N")
    said = base.mark_text(dy=side / 2 - 1, fontSize=10, limit=side).encode(text="caption:N")
    chart = alt.layer(drawn, said).properties(width=columns * side, height=rows * (side + 22))
    return Chart("errors", "Test images that most trainings get wrong.", [chart])


def charts_of(sections: Sequence[Section]) -> list[Chart]:
    """Every chart of the report, for the files beside the Markdown."""

    def walk(blocks: Sequence[Any]) -> list[Chart]:
        found = []
        for block in blocks:
            if isinstance(block, Chart):
                found.append(block)
            elif isinstance(block, Pictures):
                found.append(block.chart)
            elif isinstance(block, Details):
                found += walk(block.blocks)
        return found

    return walk([block for section in sections for block in section.blocks])
