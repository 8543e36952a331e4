"""The condition language: worked examples, errors with columns, and Python as the oracle."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbot_campaign.spec.expression import MAX_DEPTH, ExpressionError, UnknownName, parse

VALUES: dict[str, Any] = {
    "ppo.learning_rate": 3e-4,
    "ppo.learning_epochs": 5,
    "ppo.policy_hidden_layer_sizes": (256, 128),
    "ppo.lr_scheduler_type": "linear",
    "ppo.time_limit_bootstrap": True,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ppo.learning_rate > 1e-4 and ppo.learning_epochs < 4", False),
        ("ppo.learning_rate > 1e-4 or ppo.learning_epochs < 4", True),
        ("not ppo.learning_epochs == 5", False),
        ("1 < ppo.learning_epochs <= 5 != 6", True),
        ("1 < ppo.learning_epochs < 5", False),
        ("ppo.learning_epochs in [4, 5, 6]", True),
        ("ppo.learning_epochs not in [4, 5, 6]", False),
        ("ppo.lr_scheduler_type == 'linear'", True),
        ('ppo.lr_scheduler_type in ["none", "kl_adaptive"]', False),
        ("ppo.policy_hidden_layer_sizes == [256, 128]", True),
        ("ppo.policy_hidden_layer_sizes in [[64], [256, 128]]", True),
        ("len(ppo.policy_hidden_layer_sizes) > 2", False),
        ("sum(ppo.policy_hidden_layer_sizes)", 384),
        ("max(ppo.policy_hidden_layer_sizes) - min(1, 2.5)", 255),
        ("abs(-3) * 2 - 1_000 / 4", -244.0),
        ("2 - 3 - 4", -5),
        ("8 / 4 / 2", 1.0),
        ("-2 * -(1 + 2)", 6),
        ("ppo.time_limit_bootstrap", True),
        ("true and not false", True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        (".5 + 1. + 1e-3", 1.501),
        ("[]", []),
    ],
)
def test_examples(text: str, value: object) -> None:
    assert parse(text).evaluate(VALUES) == value


def test_names_are_listed() -> None:
    expression = parse("ppo.a > 1 and len(env.b) == 2 or reward.c in [ppo.a, d]")
    assert expression.names == {"ppo.a", "env.b", "reward.c", "d"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("ppo.a = 3", "column 7: '=' is not understood here; compare with '=='"),
        ("a && b", "column 3: '&' is not understood here; write 'and'"),
        ("a || b", "write 'or'"),
        ("!a", "write 'not'"),
        ("(a > 1", "column 7: expected ')', found the end"),
        ("a > 1)", "column 6: expected an operator or the end, found ')'"),
        ("a >", "column 4: expected a value, found the end"),
        ("a b", "column 3: expected an operator or the end, found 'b'"),
        ("a not 3", "column 7: expected 'in', found '3'"),
        ("[1, ]", "column 5: expected a value, found ']'"),
        ("[1 2]", "column 4: expected ',', found '2'"),
        ("'open", "column 1: ''' is not understood here"),
        ("1e", "column 1"),
        ("1__0", "column 1"),
        ("a.1", "column 2"),
        ("lenn(a)", "column 1: no function 'lenn'. Did you mean 'len'?"),
        ("__import__('os')", "no function '__import__'"),
        ("().__class__", "column 3: '.' is not understood here"),
        ("a if b else c", "column 3: expected an operator or the end, found 'if'"),
        ("a[0]", "column 2: expected an operator or the end, found '['"),
        ("2 ** 3", "column 4: expected a value, found '*'"),
        ("1e999", "too large"),
        ("and", "expected a value, found 'and'"),
        ("x" * 2001, "at most 2000"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_column(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ppo.learning_rate < 'a'", "do not compare"),
        ("ppo.learning_epochs in 5", "takes a list on its right"),
        ("1 / 0", "division by zero"),
        ("true + 1", "'+' takes numbers"),
        ("'a' + 'b'", "'+' takes numbers"),
        ("len(5)", "len(5) has no value"),
        ("min([])", "min([]) has no value"),
        ("abs(1, 2)", "abs(1, 2) has no value"),
        ("sum(['a'])", "sum(['a']) has no value"),
    ],
)
def test_operations_that_do_not_fit_their_values(text: str, words: str) -> None:
    expression = parse(text)
    with pytest.raises(ExpressionError) as caught:
        expression.evaluate(VALUES)
    assert words in str(caught.value)
    assert expression.holds(VALUES) is False


def test_a_name_without_a_value_is_unknown_only_where_it_is_reached() -> None:
    expression = parse("ppo.learning_epochs > 9 and ppo.inactive > 1")
    assert expression.evaluate(VALUES) is False
    with pytest.raises(UnknownName, match=r"'ppo\.inactive' has no value"):
        parse("ppo.inactive > 1").evaluate(VALUES)
    assert parse("ppo.inactive > 1").holds(VALUES) is False


@pytest.mark.parametrize("opening", ["(", "[", "-", "not ", "abs("])
def test_hostile_nesting_is_refused_and_not_followed(opening: str) -> None:
    with pytest.raises(ExpressionError, match=f"nested more than {MAX_DEPTH} deep"):
        parse(opening * 300 + "1")


def test_long_chains_need_no_depth() -> None:
    assert parse("+".join(["1"] * 900)).evaluate({}) == 900
    assert parse(" or ".join(["false"] * 200)).evaluate({}) is False


# --- Python as the oracle -------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.floats(0, 1e9, allow_nan=False).map(repr),
    st.sampled_from(["a", "b", "1e-3", "1_000"]),
)
SIGNS = ["+", "-", "*", "/"]
COMPARISONS = ["<", "<=", ">", ">=", "==", "!="]


def _join(operators: list[str]) -> Any:
    def build(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, st.sampled_from(operators), inner).map(" ".join)
        return pair | pair.map("({})".format)

    return build


def _signed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _join(SIGNS)(inner) | inner.map("-({})".format) | inner.map("abs({})".format)


ARITHMETIC = st.recursive(NUMBERS, _signed, max_leaves=12)
COMPARISON = st.lists(ARITHMETIC, min_size=2, max_size=4).flatmap(
    lambda terms: st.lists(st.sampled_from(COMPARISONS), min_size=len(terms) - 1, max_size=len(terms) - 1).map(
        lambda signs: terms[0] + "".join(f" {sign} {term}" for sign, term in zip(signs, terms[1:], strict=True))
    )
)
MEMBERSHIP = st.tuples(NUMBERS, st.sampled_from([" in ", " not in "]), st.lists(NUMBERS, max_size=3)).map(
    lambda parts: f"{parts[0]}{parts[1]}[{', '.join(parts[2])}]"
)
CONDITION = st.recursive(
    COMPARISON | MEMBERSHIP,
    lambda inner: _join(["and", "or"])(inner) | inner.map("not ({})".format),
    max_leaves=5,
)
NAMES = {"a": 3, "b": -0.25}


def _python(text: str) -> Any:
    try:
        return eval(text, {"__builtins__": {}, "abs": abs}, dict(NAMES))  # noqa: S307 - the oracle, on text made here
    except (ZeroDivisionError, OverflowError):
        return ZeroDivisionError


def _ours(text: str) -> Any:
    try:
        return parse(text).evaluate(NAMES)
    except ExpressionError:
        return ZeroDivisionError


@given(ARITHMETIC)
def test_arithmetic_is_what_python_says(text: str) -> None:
    ours, python = _ours(text), _python(text)
    assert ours == python or (math.isnan(ours) and math.isnan(python))


@given(CONDITION)
def test_conditions_are_what_python_says(text: str) -> None:
    assert _ours(text) == _python(text)


@given(st.text(alphabet="ab.1_ ()[],<>=!+-*/'\"andortifelsm", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    complaint = ""
    try:
        parse(text).evaluate(NAMES)
    except ExpressionError as error:
        complaint = str(error)
    assert "\n" not in complaint
