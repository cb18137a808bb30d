"""A case as someone gives it, by JSON or in a form, as a row of the ruleset's features; faults name the feature."""

import json
import math
import re
from dataclasses import dataclass

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, quoted
from hidden_rule.task.ruleset import Feature, Ruleset

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
LARGEST = 1e15  # of a number; larger ones lose digits
MAX_TEXT = 100_000  # characters of a value


@dataclass(frozen=True)
class HeldRule:
    """What a ruleset says of a case: the first rule that holds, or `default` where none does."""

    name: str
    is_hidden: bool
    label: str | None  # None: nothing is stated of this case
    label_without_hidden: str | None

    @property
    def words(self) -> str:
        """`vip_override (hidden)`."""
        return f"{self.name} (hidden)" if self.is_hidden else "no rule" if self.name == "default" else self.name


def parse_case(text: str, source: str) -> dict:
    """The object of a JSON text, as `value_of` takes its values; raises UserError naming `source` for what is none."""

    def unique(pairs: list) -> dict:
        names = [name for name, _ in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(source, twice, "stands twice", "keep one")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:120]
        example = 'give {"feature": value, …}'
        raise UserError(source, None, f"is not JSON ({reason})", example) from None
    if not isinstance(found, dict):
        raise UserError(source, None, "is no object", 'give {"feature": value, …}')
    return found


def case_of(given: dict, ruleset: Ruleset, source: str) -> pl.DataFrame:
    """One row of the ruleset's features; raises UserError for a feature that is unknown, missing or none of its kind.

    Of a file of past decisions a feature may be given by its column's name, and null stands for a missing value.
    """
    columns = {feature.column: feature.name for feature in ruleset.features if feature.column}
    by_name: dict[str, object] = {}
    for key, value in given.items():
        name = key if key in ruleset.feature_names else columns.get(" ".join(key.split()))
        if name is None:
            raise UserError(source, key, "is no feature", did_you_mean(key, ruleset.feature_names))
        if name in by_name:
            raise UserError(source, key, "stands twice", "keep one")
        by_name[name] = value
    row = {}
    for feature in ruleset.features:
        if feature.name not in by_name:
            null = ", or null where it is missing" if ruleset.is_observed else ""
            raise UserError(source, feature.name, "is missing", f"give {values_of(feature)}{null}")
        row[feature.name] = value_of(feature, by_name[feature.name], ruleset.is_observed, source)
    return pl.DataFrame([row], schema=ruleset.feature_schema)


def values_of(feature: Feature) -> str:
    """The values that a feature may have, in words."""
    if feature.kind == "number":
        unit = f" ({feature.unit})" if feature.unit else ""
        return f"a number{unit}, usually from {feature.low:g} to {feature.high:g}"
    if feature.kind == "choice":
        return f"one of {', '.join(feature.choices[:12])}{', …' if len(feature.choices) > 12 else ''}"
    return "a text"


def value_of(feature: Feature, given, is_observed: bool, source: str):
    """A feature's value, of its type, from a JSON value or a text; None where it is missing."""
    if given is None or (isinstance(given, str) and not given.strip()):
        if is_observed:
            return None
        raise UserError(source, feature.name, "is empty", f"give {values_of(feature)}")
    if feature.kind == "number":
        return number_of(feature, given, source)
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str):
        raise UserError(source, feature.name, f"{quoted(given)} is no text", f"give {values_of(feature)}")
    if len(given) > MAX_TEXT:
        fault = f"has {len(given):,} characters, of at most {MAX_TEXT:,}"
        raise UserError(source, feature.name, fault, "shorten it")
    if not given.isascii() and any("\ud800" <= c <= "\udfff" for c in given):
        raise UserError(source, feature.name, "holds half of a surrogate pair, which is no character", "leave it out")
    text = given.replace("\r\n", "\n").strip()
    if feature.kind == "choice" and not is_observed and text not in feature.choices:
        raise UserError(source, feature.name, f"{quoted(text)} is no choice", did_you_mean(text, feature.choices))
    return text


def number_of(feature: Feature, given, source: str) -> int | float:
    """A number of the feature's type."""
    remedy = f"give {values_of(feature)}"
    if isinstance(given, str) and NUMBER.fullmatch(given.strip()):
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UserError(source, feature.name, f"{quoted(given)} is no number", remedy)
    if not abs(given) < LARGEST or not math.isfinite(given):
        raise UserError(source, feature.name, f"{str(given)[:40]} is too large a number", remedy)
    if feature.dtype == pl.Float64:
        return float(given)
    if given != int(given):
        raise UserError(source, feature.name, f"{given:g} is no whole number", "round it, as the cases of training are")
    return int(given)


def unusual(ruleset: Ruleset, cases: pl.DataFrame) -> list[str]:
    """Lines on values that no case of training can have had, or had: outside the range, or a new choice."""
    lines = []
    for feature in ruleset.features:
        column = cases[feature.name].drop_nulls()
        if feature.kind == "number":
            outside = column.filter((column < feature.low) | (column > feature.high))
            what = f"outside {feature.low:g} to {feature.high:g}, the range of training"
        elif feature.kind == "choice":
            outside = column.filter(~column.is_in(list(feature.choices)))
            what = "that training did not have"
        else:
            continue
        if len(outside):
            shown = ", ".join(map(quoted, outside.unique(maintain_order=True).head(3)))
            lines.append(f"{feature.name}: {ruleset.case.counted(len(outside))} with a value {what} ({shown})")
    return lines


def held_rules(ruleset: Ruleset, cases: pl.DataFrame) -> list[HeldRule] | None:
    """What the ruleset says of each case; None where it has no rules."""
    if not ruleset.rules and ruleset.default is None:
        return None
    hidden = {rule.name for rule in ruleset.hidden_rules}
    decided = ruleset.decide(cases).select("fired_rule", "label", "label_without_hidden")
    return [HeldRule(name, name in hidden, label, without) for name, label, without in decided.iter_rows()]
