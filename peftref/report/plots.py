"""The plots of a study as inline SVG: scores against size, learning curves, step times. Drawn by altair, without a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftref.report.findings import Findings

WIDTH, HEIGHT = 560, 300
GREY = "#808080"


def plots(findings: Findings) -> list[tuple[str, str]]:
    """Titles and SVG texts of the plots for which there are data."""
    drawn = [
        ("Score against trained parameters", _scores(findings)),
        ("Learning curves on dev, mean over seeds", _curves(findings)),
        ("Step time against the frozen host", _steps(findings)),
    ]
    return [(title, _svg(chart)) for title, chart in drawn if chart is not None]


def _scores(findings: Findings) -> Any:
    import altair as alt

    metric = findings.study.data.metric
    rows = [
        {
            "technique": entry.label,
            "trained": max(1, entry.trained),
            "score": sum(scores) / len(scores),
            "low": min(scores),
            "high": max(scores),
        }
        for entry in findings.study.techniques
        if (scores := findings.scores(entry.label, metric))
    ]
    if not rows:
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "trained:Q",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(grid=False, format="~s"),
            title="trained parameters without the head (log; none stands at 1)",
        ),
    )
    points = base.mark_point(filled=True, size=70).encode(
        y=alt.Y("score:Q", scale=alt.Scale(zero=False), title=f"{metric.replace('_', ' ')} on test, range over seeds"),
        color=alt.Color("technique:N", legend=None, scale=alt.Scale(scheme="tableau20")),
    )
    spread = base.mark_rule().encode(
        y="low:Q", y2="high:Q", color=alt.Color("technique:N", legend=None, scale=alt.Scale(scheme="tableau20"))
    )
    names = base.mark_text(align="left", dx=7, fontSize=11, color=GREY).encode(y="score:Q", text="technique:N")
    room = 10 + 7 * max(len(str(row["technique"])) for row in rows)  # Vega keeps none for a text beside the last point
    return (spread + points + names).properties(padding={"left": 5, "top": 5, "bottom": 5, "right": room})


def _curves(findings: Findings) -> Any:
    import altair as alt

    metric = findings.study.data.metric
    rows = []
    for entry in findings.study.techniques:
        gathered: dict[int, list[float]] = {}
        for record in findings.finished(entry.label):
            for point in record["training"]["curve"]:
                gathered.setdefault(point["step"], []).append(point["dev"][metric])
        rows += [
            {"technique": entry.label, "step": step, "score": sum(values) / len(values)}
            for step, values in gathered.items()
        ]
    if not rows:
        return None
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q", title="optimizer steps"),
            y=alt.Y("score:Q", scale=alt.Scale(zero=False), title=f"{metric.replace('_', ' ')} on dev"),
            color=alt.Color("technique:N", title=None, scale=alt.Scale(scheme="tableau20")),
        )
    )


def _steps(findings: Findings) -> Any:
    import altair as alt

    rows = [
        {"technique": entry.label, "ratio": ratio}
        for entry in findings.study.techniques
        if (ratio := (findings.measures(entry.label).get("step") or {}).get("ratio_to_frozen_host")) is not None
    ]
    if not rows:
        return None
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("ratio:Q", title="step time / frozen host with one trainable vector at its bottom"),
            y=alt.Y("technique:N", sort=None, title=None),
            color=alt.Color("technique:N", legend=None, scale=alt.Scale(scheme="tableau20")),
        )
    )
    return bars + alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="one:Q")


def _svg(chart: Any) -> str:
    import vl_convert

    finished = (
        chart.properties(width=WIDTH, height=HEIGHT, background="transparent")
        .configure_axis(
            labelLimit=0,
            labelColor=GREY,
            titleColor=GREY,
            gridColor=GREY,
            gridOpacity=0.25,
            domainColor=GREY,
            tickColor=GREY,
        )
        .configure_legend(labelLimit=0, columns=1, symbolLimit=0, labelColor=GREY, titleColor=GREY)
        .configure_view(stroke=None)
    )
    text = str(vl_convert.vegalite_to_svg(finished.to_dict()))
    return re.sub(r'<svg ([^>]*?)width="[\d.]+" height="[\d.]+"', r"<svg \1", text, count=1)
