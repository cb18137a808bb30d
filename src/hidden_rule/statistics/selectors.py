"""Selectors, the parts of a rule's predicate: a feature compared with a threshold or a list of values.

A selector is found on some cases and written so that it is true of others too: of the numbers between two neighbouring
cases the roundest is taken as the threshold, as a person would write it.
"""

import functools
import math
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from hidden_rule.task.predicates import FAILURES, parse_predicate

LEAST_EXPONENT = -300  # of ten, in the steps that a threshold is a multiple of
MAX_WHOLE = 2**63  # from which SQL has no whole numbers


@dataclass(frozen=True)
class Bound:
    """A number above or below a threshold. A missing number is neither.

    gap: the two neighbouring values between which the threshold lies: the last below it, and the first above it.
    """

    feature: str
    above: bool
    gap: tuple[float, float]

    @functools.cached_property
    def threshold(self) -> Decimal:
        """The roundest number of the gap."""
        return roundest(*self.gap)

    @property
    def comparison(self) -> str:
        """`>`, `>=`, `<` or `<=`."""
        at_upper_end = float(self.threshold) == self.gap[1]
        return (">=" if at_upper_end else ">") if self.above else ("<" if at_upper_end else "<=")

    @property
    def sql(self) -> str:
        return f"{sql_name(self.feature)} {self.comparison} {sql_number(self.threshold)}"

    @property
    def words(self) -> str:
        comparison = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}[self.comparison]
        return f"{spaced(self.feature)} {comparison} {sql_number(self.threshold)}"


@dataclass(frozen=True)
class OneOf:
    """A value from a list, or (`negated`) one that is not on it. A missing value is neither."""

    feature: str
    values: tuple[str, ...]
    negated: bool = False

    @property
    def sql(self) -> str:
        name, listed = sql_name(self.feature), [sql_literal(value) for value in self.values]
        if len(listed) == 1:
            return f"{name} {'<>' if self.negated else '='} {listed[0]}"
        return f"{name} {'NOT IN' if self.negated else 'IN'} ({', '.join(listed)})"

    @property
    def words(self) -> str:
        return f"{spaced(self.feature)} {'other than' if self.negated else 'is'} {' or '.join(self.values)}"


@dataclass(frozen=True)
class Contains:
    """A text that holds a word, in capitals or small letters."""

    feature: str
    word: str

    @property
    def sql(self) -> str:
        return f"{sql_name(self.feature)} ILIKE {sql_literal(f'%{self.word}%')}"

    @property
    def words(self) -> str:
        return f"{spaced(self.feature)} mentions {self.word}"


@dataclass(frozen=True)
class Missing:
    """A number that is not there, or (`negated`) one that is."""

    feature: str
    negated: bool = False

    @property
    def sql(self) -> str:
        return f"{sql_name(self.feature)} IS {'NOT ' * self.negated}NULL"

    @property
    def words(self) -> str:
        return f"{spaced(self.feature)} is {'not ' * self.negated}missing"


Selector = Bound | OneOf | Contains | Missing


def predicate_of(selectors) -> str:
    """The SQL predicate that holds where all selectors do: features by name, a feature's lower bound first."""
    return " AND ".join(selector.sql for selector in in_order(selectors))


def words_of(selectors) -> str:
    """The same in plain words."""
    return " and ".join(selector.words for selector in in_order(selectors))


def in_order(selectors) -> list[Selector]:
    return sorted(selectors, key=lambda s: (s.feature, isinstance(s, Bound) and not s.above))


def spaced(name: str) -> str:
    """A feature's name with blanks for underscores."""
    return name.replace("_", " ")


def holds(when: str, frame: pl.DataFrame) -> pl.Series:
    """Where an SQL predicate holds in a table; a predicate without an answer (null) does not hold."""
    return frame.select(parse_predicate(when).fill_null(False)).to_series()


def roundest(low: float, high: float) -> Decimal:
    """The number of [low, high] with the fewest digits, a multiple of the largest power of ten, or of 5 or 2 times one.

    Of several the nearest to the middle. As a float it is one of low, high, and what lies between; low < high.
    """
    if low <= 0 <= high:
        return Decimal(0)
    a, b = Decimal(repr(float(low))), Decimal(repr(float(high)))
    middle = (a + b) / 2
    exponent = max(abs(a), abs(b)).adjusted() + 1
    while exponent >= LEAST_EXPONENT:
        for step in (Decimal(10) ** exponent, Decimal(5).scaleb(exponent - 1), Decimal(2).scaleb(exponent - 1)):
            multiples = range(math.ceil(a / step), math.floor(b / step) + 1)
            if multiples:
                nearest = min(multiples[-1], max(multiples[0], round(middle / step)))
                return nearest * step
        exponent -= 1
    return a


def sql_number(number: Decimal) -> str:
    """A number as SQL has it, without an exponent."""
    text = format(number.normalize() + 0, "f")
    return f"{text}.0" if "." not in text and abs(number) >= MAX_WHOLE else text


def sql_literal(value: str) -> str:
    """A text in single quotes."""
    return "'" + value.replace("'", "''") + "'"


@functools.cache
def sql_name(name: str) -> str:
    """A column's name, in double quotes where SQL would read it otherwise."""
    try:
        plain = name.isascii() and name.isidentifier() and pl.sql_expr(f"{name} = 1").meta.root_names() == [name]
    except FAILURES:
        plain = False
    return name if plain else '"' + name.replace('"', '""') + '"'
