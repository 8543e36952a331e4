"""A small language for conditions over parameters, read by a parser of our own and never by ``eval``.

    condition   := either
    either      := both ("or" both)*
    both        := negation ("and" negation)*
    negation    := "not" negation | comparison
    comparison  := sum (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") sum)*
    sum         := product (("+" | "-") product)*
    product     := sign (("*" | "/") sign)*
    sign        := ("+" | "-") sign | atom
    atom        := number | text | "true" | "false" | name | function "(" items ")" | "[" items "]" | "(" either ")"
    items       := [either ("," either)*]

A name is dotted (``ppo.learning_rate``); functions are len, min, max, sum and abs. Values mean what they mean in
Python, with three differences: ``and``, ``or`` and ``not`` return true or false, arithmetic takes numbers only, and
lists and tuples are the same.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vbot_campaign.errors import SpecError, did_you_mean

MAX_LENGTH = 2000
MAX_DEPTH = 32  # each level costs about ten Python frames, so this stays far from the interpreter's own limit


class ExpressionError(SpecError):
    """A condition cannot be read, or cannot be evaluated for these values."""


class UnknownName(ExpressionError):  # noqa: N818 - reads as what it says where it is caught
    """A condition uses a name that has no value, such as a conditional parameter that is not active."""

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' has no value")
        self.name = name


class Node(Protocol):
    """A piece of a parsed expression."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the piece's value."""
        ...

    def names(self) -> Iterator[str]:
        """Yield the names it uses."""
        ...


@dataclass(frozen=True)
class Expression:
    """A parsed expression."""

    text: str
    node: Node = field(repr=False, compare=False)
    names: frozenset[str] = field(repr=False, compare=False)
    """Dotted names whose values `evaluate` needs."""

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the value: true or false for a condition, else a number, text or list.

        Args:
            values: Value of each name. Parts that ``and``, ``or`` and chained comparisons do not reach need none.

        Raises:
            UnknownName: A name that was reached has no value.
            ExpressionError: An operation does not fit its values, or divides by zero.
        """
        return self.node.evaluate(values)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Tell whether the condition is true; one that cannot be evaluated for these values does not hold."""
        try:
            return bool(self.evaluate(values))
        except ExpressionError:
            return False


@functools.lru_cache(maxsize=512)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: It breaks the grammar; the message has the column, counted from 1.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are read")
    node = _Parser(list(_tokens(text))).parse()
    return Expression(text, node, frozenset(node.names()))


# --- tokens ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
      (?P<number> (?: \d+(?:_\d+)* (?:\.(?:\d+(?:_\d+)*)?)? | \.\d+(?:_\d+)* ) (?:[eE][+-]?\d+)? (?![\w.]) )
    | (?P<text> '[^'\n]*' | "[^"\n]*" )
    | (?P<name> [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)* )
    | (?P<symbol> == | != | <= | >= | [-+*/()<>,] | \[ | \] )
    """,
    re.VERBOSE | re.ASCII,
)
_HINTS = {
    "=": "compare with '=='",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "%": "there is no modulo",
}
_WORDS = frozenset({"and", "or", "not", "in", "true", "false", "True", "False"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            hint = _HINTS.get(
                text[at], "valid are numbers, texts, names, and or not in, == != < <= > >= + - * / ( ) [ ]"
            )
            raise ExpressionError(f"column {at + 1}: '{text[at]}' is not understood here; {hint}")
        kind = str(match.lastgroup)
        if kind == "name" and match.group() in _WORDS:
            kind = "word"
        yield _Token(kind, match.group(), at + 1)
        at = match.end()
    yield _Token("end", "the end", len(text) + 1)


# --- tree -----------------------------------------------------------------------------------------------------------

# Chains of one operator are flat nodes, so that the depth of the tree is the depth of the brackets and no more.


@dataclass(frozen=True)
class _Literal:
    value: Any

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        return self.value

    def names(self) -> Iterator[str]:
        return iter(())


@dataclass(frozen=True)
class _Name:
    name: str

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        if self.name not in values:
            raise UnknownName(self.name)
        return _as_lists(values[self.name])

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class _Several:
    """What all nodes with several operands share."""

    items: tuple[Node, ...]

    def names(self) -> Iterator[str]:
        for item in self.items:
            yield from item.names()


class _List(_Several):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        return [item.evaluate(values) for item in self.items]


class _Or(_Several):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        return any(item.evaluate(values) for item in self.items)


class _And(_Several):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        return all(item.evaluate(values) for item in self.items)


class _Not(_Several):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        return not self.items[0].evaluate(values)


@dataclass(frozen=True)
class _Operations(_Several):
    """Operands with the operator between each two of them."""

    operators: tuple[str, ...]


class _Arithmetic(_Operations):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        result = self.items[0].evaluate(values)
        for sign, item in zip(self.operators, self.items[1:], strict=True):
            result = _calculate(sign, result, item.evaluate(values))
        return result


class _Comparison(_Operations):
    def evaluate(self, values: Mapping[str, Any]) -> Any:
        left = self.items[0].evaluate(values)
        for sign, item in zip(self.operators, self.items[1:], strict=True):
            right = item.evaluate(values)
            if not _compare(sign, left, right):
                return False
            left = right
        return True


@dataclass(frozen=True)
class _Call(_Several):
    function: str

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        arguments = [item.evaluate(values) for item in self.items]
        try:
            return _FUNCTIONS[self.function](arguments)
        except (TypeError, ValueError, OverflowError):
            shown = ", ".join(_show(argument) for argument in arguments)
            raise ExpressionError(f"{self.function}({shown}) has no value") from None


_CALCULATE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _calculate(sign: str, left: Any, right: Any) -> Any:
    if not (_is_number(left) and _is_number(right)):
        raise ExpressionError(f"{_show(left)} {sign} {_show(right)}: '{sign}' takes numbers")
    try:
        return _CALCULATE[sign](left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise ExpressionError(f"{_show(left)} {sign} {_show(right)}: {error}") from None


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign in ("in", "not in"):
        if not isinstance(right, list):
            raise ExpressionError(f"{_show(left)} {sign} {_show(right)}: '{sign}' takes a list on its right")
        return (left in right) is (sign == "in")
    try:
        return bool(_COMPARE[sign](left, right))
    except TypeError:
        raise ExpressionError(f"{_show(left)} {sign} {_show(right)}: these do not compare") from None


def _numbers(arguments: Sequence[Any]) -> list[Any]:
    items = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list) else arguments
    if not all(_is_number(item) for item in items):
        raise TypeError
    return list(items)


def _only(arguments: Sequence[Any], *, number: bool) -> Any:
    (argument,) = arguments
    if _is_number(argument) is not number:
        raise TypeError
    return argument


_FUNCTIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "len": lambda arguments: len(_only(arguments, number=False)),
    "min": lambda arguments: min(_numbers(arguments)),
    "max": lambda arguments: max(_numbers(arguments)),
    "sum": lambda arguments: sum(_numbers(arguments)),
    "abs": lambda arguments: abs(_only(arguments, number=True)),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _show(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- parser ---------------------------------------------------------------------------------------------------------


class _Parser:
    """Recursive descent, one method per line of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        if self._next.kind == "end":
            raise ExpressionError("the expression is empty; write a condition such as ppo.learning_rate > 5e-4")
        node = self._either()
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> str | None:
        token = self._next
        if token.kind not in ("word", "symbol") or token.text not in texts:
            return None
        self._at += 1
        return token.text

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise self._unexpected(f"'{text}'")

    def _unexpected(self, expected: str) -> ExpressionError:
        found = self._next.text if self._next.kind == "end" else f"'{self._next.text}'"
        return ExpressionError(f"column {self._next.column}: expected {expected}, found {found}")

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"column {self._next.column}: nested more than {MAX_DEPTH} deep")
        node = read()
        self._depth -= 1
        return node

    def _either(self) -> Node:
        items = [self._both()]
        while self._take("or"):
            items.append(self._both())
        return items[0] if len(items) == 1 else _Or(tuple(items))

    def _both(self) -> Node:
        items = [self._negation()]
        while self._take("and"):
            items.append(self._negation())
        return items[0] if len(items) == 1 else _And(tuple(items))

    def _negation(self) -> Node:
        if self._take("not"):
            return _Not((self._deeper(self._negation),))
        return self._comparison()

    def _comparison(self) -> Node:
        items, signs = [self._sum()], []
        while sign := self._comparison_sign():
            signs.append(sign)
            items.append(self._sum())
        return _Comparison(tuple(items), tuple(signs)) if signs else items[0]

    def _comparison_sign(self) -> str | None:
        sign = self._take(*_COMPARE, "in", "not")
        if sign == "not":
            self._expect("in")
            return "not in"
        return sign

    def _sum(self) -> Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Node:
        return self._chain(self._sign, "*", "/")

    def _chain(self, read: Callable[[], Node], *signs: str) -> Node:
        items, taken = [read()], []
        while sign := self._take(*signs):
            taken.append(sign)
            items.append(read())
        return _Arithmetic(tuple(items), tuple(taken)) if taken else items[0]

    def _sign(self) -> Node:
        if sign := self._take("+", "-"):
            return _Arithmetic((_Literal(0), self._deeper(self._sign)), (sign,))
        return self._atom()

    def _atom(self) -> Node:
        token = self._next
        if self._take("("):
            node = self._deeper(self._either)
            self._expect(")")
            return node
        if self._take("["):
            return _List(self._items("]"))
        if self._take("true", "false", "True", "False"):
            return _Literal(token.text.lower() == "true")
        if token.kind not in ("number", "text", "name"):
            raise self._unexpected("a value")
        self._at += 1
        if token.kind == "number":
            return _Literal(_number(token))
        return _Literal(token.text[1:-1]) if token.kind == "text" else self._name(token)

    def _name(self, token: _Token) -> Node:
        if self._take("(") is None:
            return _Name(token.text)
        if token.text not in _FUNCTIONS:
            valid = ", ".join(_FUNCTIONS)
            near = did_you_mean(token.text, _FUNCTIONS)
            raise ExpressionError(f"column {token.column}: no function '{token.text}'.{near} Valid: {valid}")
        return _Call(self._items(")"), token.text)

    def _items(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while self._take(closing) is None:
            if items:
                self._expect(",")
            items.append(self._deeper(self._either))
        return tuple(items)


def _number(token: _Token) -> int | float:
    digits = token.text.replace("_", "")
    value: int | float = int(digits) if digits.isdigit() else float(digits)
    if value in (float("inf"), float("-inf")):
        raise ExpressionError(f"column {token.column}: {token.text} is too large for a number")
    return value
