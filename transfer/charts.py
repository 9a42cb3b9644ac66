"""Charts as SVG text, drawn without a browser and without a network."""

from __future__ import annotations

import altair as alt
import pandas as pd
import vl_convert

# Okabe & Ito's palette, told apart by colour-blind readers too; dashes tell the lines apart in print.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3]]


def learning_curves(summary: pd.DataFrame) -> str:
    """Accuracy against labelled images per class, one line and band per strategy.

    Args:
        summary: as `transfer.report.summarise` gives it.

    Returns:
        The chart as SVG.
    """
    estimates = summary["accuracy"]
    points = pd.DataFrame(
        {
            "strategy": summary["strategy"],
            "shots": summary["shots"],
            "mean": [100 * value.mean for value in estimates],
            "low": [None if value.low is None else 100 * max(value.low, 0) for value in estimates],
            "high": [None if value.high is None else 100 * min(value.high, 1) for value in estimates],
        }
    )
    names, shots = list(points["strategy"].unique()), sorted(points["shots"].unique().tolist())
    colours = (COLOURS * len(names))[: len(names)]
    dashes = (DASHES * len(names))[: len(names)]
    x = alt.X("shots:Q", title="labelled images per class (log scale)").scale(type="log", nice=False).axis(values=shots)
    y = alt.Y("mean:Q", title="accuracy on target test images, %").scale(zero=False)
    colour = alt.Color("strategy:N", title=None, sort=names).scale(domain=names, range=colours)
    dash = alt.StrokeDash("strategy:N", title=None, sort=names).scale(domain=names, range=dashes)
    base = alt.Chart(points)
    mark = base.mark_area(opacity=0.18) if len(shots) > 1 else base.mark_rule()  # one point spans no area
    band = mark.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
    lines = base.mark_line(point=True, strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash)
    chart = (
        alt.layer(band, lines)
        .properties(width=620, height=360, background="white")
        .configure_legend(
            orient="bottom-right",
            labelFontSize=13,
            symbolType="stroke",
            symbolOpacity=1,
            symbolSize=400,
            symbolStrokeWidth=2,
        )
        .configure_axis(labelFontSize=12, titleFontSize=13, gridOpacity=0.5)
    )
    return vl_convert.vegalite_to_svg(chart.to_json()) + "\n"
