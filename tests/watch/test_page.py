"""A page is readable at 80 columns and in Markdown."""

from __future__ import annotations

import pytest

from vbot_campaign.watch.page import (
    Block,
    Commands,
    Heading,
    Paragraph,
    Points,
    Table,
    Title,
    render_markdown,
    render_text,
)
from vbot_campaign.watch.sparkline import sparkline

PAGE: list[Block] = [
    Title("walk · trial 3"),
    Heading("Numbers"),
    Table(("name", "value", "why"), (("a|b", "1.5", "short"), ("long name", "22", "because " * 12)), wraps=2),
    Points(("one",)),
    Commands(("vbot-campaign show walk 3",)),
]


def test_text_aligns_columns_and_breaks_the_long_one() -> None:
    assert render_text(PAGE).splitlines() == [
        "walk · trial 3",
        "",
        "Numbers",
        "  name       value  why",
        "  a|b          1.5  short",
        "  long name     22  because because because because because because because",
        "                    because because because because because",
        "  - one",
        "  vbot-campaign show walk 3",
    ]


def test_markdown_has_one_table_with_aligned_columns_and_escaped_bars() -> None:
    text = render_markdown(PAGE)
    assert text.startswith("# walk · trial 3\n\n## Numbers\n\n| name | value | why |\n| --- | ---: | --- |\n")
    assert "| a\\|b | 1.5 | short |" in text
    assert text.endswith("- one\n\n```\nvbot-campaign show walk 3\n```")


def test_commands_and_paths_are_never_broken() -> None:
    path = "runs/" + "x" * 90
    assert render_text([Commands((path,)), Paragraph(f"see {path}")]).splitlines() == [
        f"  {path}",
        "  see",
        f"  {path}",
    ]


def test_an_empty_table_is_its_titles() -> None:
    assert render_text([Table(("a", "b"), ())]) == "  a  b"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0], "▁█"),
        ([0.0, None, 7.0, 8.0], "▁ ██"),
        ([2.0, 2.0], "▁▁"),
        ([None], ""),
        ([], ""),
    ],
)
def test_a_sparkline_reaches_from_the_lowest_to_the_highest(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line


def test_a_sparkline_averages_what_does_not_fit_and_may_start_at_zero() -> None:
    assert sparkline([0.0, 0.0, 4.0, 4.0, 8.0, 8.0], width=3) == "▁▅█"
    assert sparkline([4.0, 8.0], low=0.0) == "▅█"
