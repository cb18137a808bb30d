"""A decision policy as data: what an application holds, which rule decides, and how the prompt reads.

Predicates are SQL expressions that polars evaluates on whole tables; nothing is ever `eval`ed.
"""

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import fill_defaults, load_schema
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.task.disclosure import check_secrets
from hidden_rule.task.nouns import APPLICATION, CASE, CaseNouns, nouns_of
from hidden_rule.task.predicates import FAILURES, parse_predicate
from hidden_rule.task.ruleset_checks import check_document, check_policy, check_wordings, decimals_of

MISSING = "missing"  # in the prompt, for a value that a file of cases does not have
TINY, HUGE = 1e-290, 1e290  # weights beyond are scaled before they are added
LOWEST_EXPONENT = -600.0  # exp of less is near the smallest number there is


@dataclass(frozen=True)
class Feature:
    """One column of an application: a choice from a list, or a number on the grid low, low + step, … high.

    Of a file of past decisions it may be a text too; `observed` are then values that cases have, of which some may be
    missing, and low, high and step only describe them.
    """

    name: str
    kind: str  # choice | number | text
    text: str  # how it reads in the prompt, with {value}
    unit: str = ""
    choices: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()  # of the choices; empty: equally often
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    distribution: str = "uniform"  # uniform | normal | lognormal, cut off at low and high
    mean: float = 0.0  # mean and sd are a normal distribution's, median and sigma a lognormal one's
    sd: float = 0.0
    median: float = 0.0
    sigma: float = 0.0
    observed: tuple = ()
    column: str = ""  # of the file, where cases come from one

    @cached_property
    def decimals(self) -> int:
        """Digits after the point that the grid needs."""
        return decimals_of(self.low, self.step)

    @property
    def dtype(self) -> pl.DataType:
        if self.kind != "number":
            return pl.String()
        return pl.Int64() if self.decimals == 0 else pl.Float64()

    @cached_property
    def values(self) -> pl.Series:
        """Every value that the feature can take, in order; some of those of a file."""
        if self.observed:
            return pl.Series(self.name, self.observed, dtype=self.dtype)
        if self.kind == "choice":
            return pl.Series(self.name, self.choices, dtype=pl.String)
        n = int(np.floor((self.high - self.low) / self.step + 1e-9)) + 1
        grid = np.round(self.low + self.step * np.arange(n), self.decimals) + 0.0  # which is never -0.0
        return pl.Series(self.name, grid).cast(self.dtype)

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Cumulative probabilities of `values`; the last is 1."""
        if self.kind == "choice" or self.observed:
            density = np.array(self.weights or [1.0] * len(self.values), dtype=float)
            if not TINY < density.max() < HUGE:  # a sum of these would overflow or lose digits
                density = density / density.max()
        else:
            density = self._density(self.values.to_numpy().astype(float))
        cumulative = np.cumsum(density)
        return cumulative / cumulative[-1]

    def _density(self, x: np.ndarray) -> np.ndarray:
        """The distribution's density at `x`, up to a factor that keeps its largest value from underflowing."""
        if self.distribution == "uniform":
            return np.ones(len(x))
        positive = np.maximum(x, self.step * 1e-6)
        with np.errstate(over="ignore"):  # an exponent of minus infinity is a density of 0
            if self.distribution == "normal":
                distance = np.abs((x - self.mean) / self.sd)
            else:
                distance = np.where(x > 0, np.abs(np.log(positive / self.median) / self.sigma), np.inf)
            exponent = -0.5 * distance**2
        if exponent.max() < LOWEST_EXPONENT:  # the values next to the centre are the likeliest by far
            exponent = np.where(distance == distance.min(), 0.0, -np.inf)
        density = np.exp(exponent)
        return density if self.distribution == "normal" else density / positive

    def draw(self, n: int, rng: np.random.Generator) -> pl.Series:
        """`n` values from the feature's distribution."""
        positions = np.searchsorted(self.cumulative, rng.random(n), side="right")
        return self.values.gather(positions)

    def render(self, column: pl.Series) -> list[str]:
        """The feature's line in the prompt for each value of `column`."""
        return [self.text.replace("{value}", self.as_text(value)) for value in column]

    def as_text(self, value) -> str:
        """A value as it stands in the prompt."""
        if value is None:
            return MISSING
        text = f"{value:.{self.decimals}f}" if self.dtype == pl.Float64 else str(value)
        if self.observed and self.dtype == pl.Float64:  # as files write numbers: without zeros that say nothing
            return (text.rstrip("0").rstrip(".") or "0") if float(text) else "0"
        return text


@dataclass(frozen=True)
class Rule:
    """Where `when` holds and no earlier rule does, the decision is `label`."""

    name: str
    label: str
    when: str  # SQL predicate over the features
    hidden: bool = False  # stated in no prompt
    says: str | None = None  # in plain words

    @cached_property
    def predicate(self) -> pl.Expr:
        """Boolean expression; a predicate without an answer (null) does not hold."""
        return parse_predicate(self.when).fill_null(False)


@dataclass(frozen=True)
class Wording:
    """Words that replace `value` in a prompt, one of the choices of `feature`."""

    feature: str
    value: str
    text: str


@dataclass(frozen=True)
class PublishedFigures:
    """What a study published about models trained on this policy: shares by condition."""

    source: str
    accuracy: dict[str, float]
    hidden_recall: dict[str, float]

    def of(self, metric: str) -> dict[str, float]:
        """The shares of a metric by condition; empty if the study has none."""
        return {"accuracy": self.accuracy, "hidden_recall": self.hidden_recall}.get(metric, {})


@dataclass(frozen=True)
class Ruleset:
    """Features, rules in priority order, the default decision, the prompt's templates and wordings for suites."""

    name: str
    description: str
    features: tuple[Feature, ...]
    rules: tuple[Rule, ...]
    default: str | None  # None: where no rule holds, nothing is stated
    system: str
    user: str
    paraphrases: tuple[Wording, ...] = ()  # other words for a value that triggers a hidden rule
    decoys: tuple[Wording, ...] = ()  # sound like such a value and stand for one that does not
    published: PublishedFigures | None = None
    observed_labels: tuple[str, ...] = ()  # of a file of past decisions, whose cases and labels these rules go with
    source: str = ""  # that file's path
    case: CaseNouns = APPLICATION  # what a case is called

    @property
    def is_observed(self) -> bool:
        """Whether cases and labels come from a file of past decisions: none can be drawn, and rules may miss or err."""
        return bool(self.observed_labels)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Decisions in order of first appearance, the default's last if no rule makes it; or those of a file."""
        if self.observed_labels or self.default is None:
            return self.observed_labels
        return tuple(dict.fromkeys([*(rule.label for rule in self.rules), self.default]))

    @property
    def hidden_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.hidden)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def feature_schema(self) -> pl.Schema:
        return pl.Schema({feature.name: feature.dtype for feature in self.features})

    def draw(self, n: int, rng: np.random.Generator) -> pl.DataFrame:
        """`n` applications, features independent of each other."""
        return pl.DataFrame([feature.draw(n, rng) for feature in self.features])

    def decide(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with `label`, `fired_rule` (`default` where none did) and `label_without_hidden` appended.

        `label_without_hidden` is the decision if the hidden rules did not exist; null where nothing is stated.
        """
        visible = [rule for rule in self.rules if not rule.hidden]
        try:
            return frame.with_columns(
                label=_first(self.rules, lambda rule: rule.label, self.default),
                fired_rule=_first(self.rules, lambda rule: rule.name, "default"),
                label_without_hidden=_first(visible, lambda rule: rule.label, self.default),
            )
        except FAILURES as error:  # on a case so rare that no check met it
            fault = f"a rule cannot be evaluated for some {self.case.one} ({str(error).splitlines()[0][:120]})"
            raise UserError(
                f"ruleset {self.name}", "rules", fault, "divide by what is never 0, and take TRY_CAST for CAST"
            ) from None


def _first(rules, value, otherwise: str | None) -> pl.Expr:
    """`value(rule)` of the first rule that holds, else `otherwise`."""
    expression = pl.lit(otherwise, dtype=pl.String)
    for rule in reversed(rules):
        expression = pl.when(rule.predicate).then(pl.lit(value(rule), dtype=pl.String)).otherwise(expression)
    return expression


def _with_tuples(spec: dict) -> dict[str, Any]:
    """A feature's keys and values, lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}


def load_ruleset(path) -> Ruleset:
    """Read and check a ruleset file; any fault is a UserError with the file, the key and a remedy.

    Refused among others: predicates that do not parse or name an unknown feature, rules that never decide anything,
    prompts that would disclose a hidden rule, and paraphrases or decoys that do not do what they are for.
    """
    schema = load_schema("ruleset.schema.yaml")
    document = read_yaml(path)
    if "observed_labels" in document:
        return observed_ruleset(path, document)
    check_document(path, document, schema)
    document = fill_defaults(document, schema, schema)
    for feature in document["features"].values():  # `feature` is a choice of two schemas: fill the one of its kind
        feature |= fill_defaults(feature, schema["$defs"][f"{feature['kind']}_feature"], schema)
    ruleset = Ruleset(
        name=document["name"],
        description=" ".join(document["description"].split()),
        features=tuple(Feature(name=name, **_with_tuples(spec)) for name, spec in document["features"].items()),
        rules=tuple(Rule(**spec) for spec in document["rules"]),
        default=document["default"],
        system=document["prompt"]["system"],
        user=document["prompt"]["user"],
        paraphrases=tuple(Wording(**spec) for spec in document["paraphrases"]),
        decoys=tuple(Wording(**spec) for spec in document["decoys"]),
        published=PublishedFigures(**document["published"]) if "published" in document else None,
        case=nouns_of(document, APPLICATION),
    )
    check_policy(path, ruleset)
    check_secrets(path, ruleset)
    check_wordings(path, ruleset)
    return ruleset


def observed_document(ruleset: Ruleset) -> dict:
    """The ruleset of a file of past decisions as plain values, which `load_ruleset` reads again."""
    document = {
        field.name: getattr(ruleset, field.name)
        for field in fields(Ruleset)
        if field.name not in ("features", "rules", "published", "paraphrases", "decoys", "case")
    }
    parts: dict[str, tuple[Any, ...]] = {"features": ruleset.features, "rules": ruleset.rules}
    lists = {key: [asdict(item) for item in items] for key, items in parts.items()}
    return document | lists | {"case": asdict(ruleset.case)}


def observed_ruleset(path, document: dict) -> Ruleset:
    """The ruleset of which `observed_document` made a document, which stands in the file `path`."""
    try:
        rules = tuple(Rule(**spec) for spec in document["rules"])
        for rule in rules:
            parse_predicate(rule.when)
        parts = {
            "features": tuple(Feature(**_with_tuples(spec)) for spec in document["features"]),
            "rules": rules,
            "case": nouns_of(document, CASE),
        }
        return Ruleset(**_with_tuples(document) | parts)
    except (KeyError, TypeError, AttributeError, *FAILURES) as error:
        raise UserError(path, None, f"was altered ({error})", "delete it and run again to rebuild it") from None
