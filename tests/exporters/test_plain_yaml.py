"""Whatever a study holds, its mirrors are plain YAML that any reader loads."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from vbot_campaign.exporters import plain_yaml
from vbot_campaign.study.snapshot import TrialState

_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=40))
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)


def without_infinities(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    if isinstance(value, dict):
        return {without_infinities(key): without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_infinities(item) for item in value]
    return value


@given(_values)
@example("\x85")
@example("a\u2028b: \ufeff")
@example("\ud800")
def test_what_is_written_is_what_is_loaded(value: Any) -> None:
    text = plain_yaml.document(
        "walk", plain_yaml.dump({"value": value}), plain_yaml.listing("rows", [plain_yaml.item(value)] * 2)
    )
    loaded = yaml.safe_load(text.encode("utf-8"))
    expected = without_infinities(value)
    assert loaded == {"schema_version": 1, "study": "walk", "value": expected, "rows": [expected, expected]}


@given(_values)
def test_neither_tags_nor_anchors_are_written(value: Any) -> None:
    shared = [value]
    events = list(yaml.parse(plain_yaml.dump({"first": shared, "second": shared}), Loader=yaml.SafeLoader))
    assert all(getattr(event, "anchor", None) is None and getattr(event, "tag", None) is None for event in events)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ((256, 128), [256, 128]),
        ({3, 1, 2}, [1, 2, 3]),
        (float("-inf"), None),
        (TrialState.PRUNED, "pruned"),
        (PurePosixPath("a/b.pt"), "a/b.pt"),
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), "2026-01-31T23:59:59Z"),
        (datetime(2026, 2, 1, 7, 59, 59, tzinfo=timezone(timedelta(hours=8))), "2026-01-31T23:59:59Z"),
        ({0.5: "half"}, {"0.5": "half"}),
    ],
)
def test_other_types_become_plain(value: Any, expected: Any) -> None:
    assert yaml.safe_load(plain_yaml.dump({"value": value})) == {"value": expected}


def test_text_that_looks_like_something_else_stays_text() -> None:
    values = ["2026-01-31T23:59:59Z", "no", "null", "1e5", "0x10", "12:30:45", "- a", "# b", "", " ", "a: b", "~", "&a"]
    assert yaml.safe_load(plain_yaml.dump(values)) == values


def test_a_document_says_what_it_is() -> None:
    text = plain_yaml.document("walk", plain_yaml.listing("rows", []))
    first, *rest = text.splitlines()
    assert first.startswith("# A mirror of study 'walk', made from the database.")
    assert "vbot-campaign export walk" in first
    assert rest == ["schema_version: 1", "study: walk", "rows: []"]
