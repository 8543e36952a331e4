"""The drawing of charts: axes, dots, lines, bars, and that no name becomes markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from vbot_campaign.exporters.report.markup import Markup, el
from vbot_campaign.exporters.report.svg import MAX_TITLED, Bar, Chart, Scale, Series, bars, parallel, short


def drawing(figure: Markup) -> ElementTree.Element:
    """Return a figure as a tree; what is not well formed fails."""
    return ElementTree.fromstring(figure)  # noqa: S314 - made a line above


def texts(figure: Markup) -> list[str]:
    return ["".join(node.itertext()) for node in drawing(figure).iter("text")]


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = el("b", "<script>")
    assert el("p", "a & b", inner, title='"x"') == '<p title="&quot;x&quot;">a &amp; b<b>&lt;script&gt;</b></p>'
    assert el("meta", charset="utf-8", hidden=True, lang=None) == '<meta charset="utf-8" hidden/>'
    assert el("td", [1, None, [2.5, "x"]], class_="a") == '<td class="a">12.5x</td>'


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0.0, 1.0, 0, 100), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(-0.5, 7.5, 0, 100), [0.0, 2.0, 4.0, 6.0]),
        (Scale(0.0, 15e6, 0, 100), [0.0, 5e6, 10e6, 15e6]),
        (Scale(1e-5, 1e-2, 0, 100, log=True), [1e-5, 1e-4, 1e-3, 1e-2]),
        (Scale(20, 200, 0, 100, log=True), [20, 50, 100, 200]),
        (Scale(3.0, 3.0, 0, 100), [3.0]),
    ],
)
def test_ticks_are_round(scale: Scale, expected: list[float]) -> None:
    assert scale.ticks() == pytest.approx(expected)


def test_a_scale_maps_values_to_pixels() -> None:
    assert Scale(0.0, 4.0, 100, 0)(1.0) == 75  # pixels grow downwards, scores upwards
    assert Scale(1e-4, 1e-2, 0, 100, log=True)(1e-3) == pytest.approx(50)
    assert Scale(0.0, 1.0, 0, 100)(7.0) == 100


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (150, "150"), (5000, "5k"), (2e6, "2M"), (-1.5e9, "-1.5G"), (3e-4, "3e-4")],
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_points_lie_where_their_values_are() -> None:
    points = [(0.0, 0.0), (10.0, 1.0)]
    chart = Chart(
        "c",
        [Series(points, dots=True, titles=["low", "high"])],
        x_range=(0, 10),
        y_range=(0, 1),
        width=200,
        height=100,
        margins=(0, 0, 0, 0),
    )
    circles = list(drawing(chart.render()).iter("circle"))
    assert [(c.get("cx"), c.get("cy")) for c in circles] == [("0", "100"), ("200", "0")]
    assert [circle.findtext("title") for circle in circles] == ["low", "high"]


def test_the_first_series_is_on_top_and_first_in_the_legend() -> None:
    points = [(0.0, 0.0), (1.0, 1.0)]
    figure = Chart("c", [Series(points, "c0", "best"), Series(points, "pale", "others")]).render()
    lines = [p.get("class") for p in drawing(figure).iter("path") if str(p.get("class")).startswith("line")]
    assert lines == ["line pale", "line c0"]
    assert figure.index("best") < figure.index("others")


def test_many_points_are_one_path_with_a_dot_for_each() -> None:
    points = [(float(i), float(i % 7)) for i in range(MAX_TITLED + 1)]
    figure = Chart("c", [Series(points, line=False, dots=True, titles=["t"] * len(points))]).render()
    assert list(drawing(figure).iter("circle")) == []
    dots = next(p for p in drawing(figure).iter("path") if p.get("class") == "dots c0")
    assert len(re.findall(r"M[\d.]+ [\d.]+h0", str(dots.get("d")))) == MAX_TITLED + 1


def test_a_chart_of_nothing_and_of_one_value_can_be_drawn() -> None:
    for points in ([], [(0.0, 0.0)], [(5.0, 3.0), (5.0, 3.0)]):
        assert drawing(Chart("c", [Series(points)], x_log=True).render()) is not None


def test_categories_are_named() -> None:
    figure = Chart("c", [Series([(0.0, 1.0), (1.0, 2.0)])], categories=["[64, 64]", "<b>"]).render()
    assert {"[64, 64]", "<b>"} <= set(texts(figure))


def test_parts_of_a_bar_follow_each_other() -> None:
    figure = bars("b", [Bar("t", [(0.5, "good"), (0.25, "bad")], "75 %")], highest=1.0)
    first, second = drawing(figure).iter("rect")
    assert float(str(second.get("x"))) == pytest.approx(
        float(str(first.get("x"))) + float(str(first.get("width"))), abs=0.2
    )
    assert float(str(first.get("width"))) == pytest.approx(2 * float(str(second.get("width"))), abs=0.2)
    assert texts(figure) == ["t", "75 %"]


def test_parallel_lines_cross_every_axis() -> None:
    axes = [("rate", [(0.0, "low"), (1.0, "high")]), ("score", [(0.0, "0"), (1.0, "1")])]
    figure = parallel("p", axes, [Series([(0.0, 1.0), (1.0, 0.0)], "c1", "best")])
    line = next(p for p in drawing(figure).iter("path") if p.get("class") == "line c1")
    assert re.fullmatch(r"M62 34L\d+ 290", str(line.get("d")))
    assert {"rate", "score", "low", "high"} <= set(texts(figure))
