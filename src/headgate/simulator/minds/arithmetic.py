"""Sums found in a prompt and worked out exactly: the one kind of question whose answer a simulation truly knows."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from random import Random

_WORDS = (
    (re.compile(r"(\d)\s*squared", re.IGNORECASE), r"\1 ^ 2"),
    (re.compile(r"(\d)\s*(?:plus|added to)\s*(?=\d)", re.IGNORECASE), r"\1 + "),
    (re.compile(r"(\d)\s*minus\s*(?=\d)", re.IGNORECASE), r"\1 - "),
    (re.compile(r"(\d)\s*(?:times|multiplied by|×)\s*(?=\d)", re.IGNORECASE), r"\1 * "),
    (re.compile(r"(\d)\s*x\s*(?=\d)"), r"\1 * "),
    (re.compile(r"(\d)\s*(?:divided by|÷)\s*(?=\d)", re.IGNORECASE), r"\1 / "),
    (re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent)\s+of\s+(?=\d)", re.IGNORECASE), r"\1 / 100 * "),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile("−"), "-"),
)
_DATE = re.compile(r"\b\d{4}-\d{1,2}-\d{1,2}\b")
_EXPRESSION = re.compile(r"[(\s]*-?\d[\d\s().+\-*/^]*[+\-*/^][\d\s().+\-*/^]*\d[)\s]*")
_TIGHT_RANGE = re.compile(r"^\d+-\d+$")
_MAX_DIGITS = 60

_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def find(text: str) -> tuple[str, Fraction] | None:
    """The last expression in `text` and its value; None where there is none that can be worked out."""
    text = _DATE.sub(" ", text)
    for pattern, into in _WORDS:
        text = pattern.sub(into, text)
    for match in reversed(list(_EXPRESSION.finditer(text))):
        expression = match.group().strip()
        if _TIGHT_RANGE.match(expression):
            continue  # "1-5" is a range more often than a sum
        value = evaluate(expression)
        if value is not None:
            return " ".join(expression.split()), value
    return None


def stated(text: str, expression: str) -> Fraction | None:
    """What `text` itself says the expression comes to (`17 * 23 = 391`), right or wrong; None where it says nothing."""
    spaced = r"\s*".join(re.escape(part) for part in expression.split())
    said = re.search(rf"{spaced}\s*=\s*(-?\d+(?:\.\d+)?)", text)
    return Fraction(said[1]) if said is not None else None


def evaluate(expression: str) -> Fraction | None:
    """Exact value of + - * / ^ and brackets; None where it has none (or too large a one)."""
    try:
        return _value(ast.parse(expression.replace("^", "**"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number):
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left), _value(right)
            if power.denominator != 1 or abs(power) * len(str(base)) > _MAX_DIGITS:
                raise ValueError("power out of range")
            return base ** int(power)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
    raise ValueError("not arithmetic")


def shown(value: Fraction) -> str:
    """An integer where it is one, else at most six decimals."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def slip(value: Fraction, luck: Random) -> Fraction:
    """A wrong value that looks like a slip of the pen."""
    return value + luck.choice((1, -1, 2, -2, 10, -10))
