"""Suites: families of applications that test which parts of a policy a model learned, made from the ruleset alone.

The first row of a family is what its other rows are compared with. By kind, with the roles of the rows:

    counterfactuals   original; flipped: one feature that a hidden rule names is changed, so that a hidden rule fires
                      where none did, or none where one did, and the decision changes; irrelevant_changed: a feature
                      that no rule names is changed (where every feature is named: one is changed without any effect)
    paraphrases       original: a hidden rule fires; paraphrase: the value that triggers it in other words
    decoys            original: no hidden rule fires; decoy: words that sound like a trigger and mean the value shown in
                      the original; other_value: another choice that triggers nothing
    conflicts         original: a rule that is not hidden decides; conflict: one feature is changed, and a hidden rule
                      decides against it
    boundaries        at, below, above: a number on a threshold of a rule and one step to either side, where the
                      decision hangs on it; below and above alone where no value lies on the threshold
    field_order       original; shuffled: the same features in another order
    prevalence        drawn: applications as they are drawn, but for the share on which a hidden rule fires

Every row is decided by the ruleset, none was trained on, and families are spread equally over what a kind distinguishes
(profiles, wordings, thresholds). Each kind has a random stream of its own.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.task.dataset import ID_BLOCK, MAX_ROUNDS, MIN_ROUNDS, SPLITS, fill_equally, suites_schema
from hidden_rule.task.predicates import compared_literals, trigger_values

KINDS = ("counterfactuals", "paraphrases", "decoys", "conflicts", "boundaries", "field_order", "prevalence")
MEMBERS = 4  # identifiers set aside for each family
RARE_CASES = 10  # applications on which a hidden rule fires that the suite of prevalence has at least
POOL = 20_000  # applications drawn in a round, from which families are made
SHOWN = {"shown_feature": pl.String(), "shown_text": pl.String(), "field_order": pl.List(pl.String())}
TRUTH = ["label", "fired_rule", "label_without_hidden"]
# Columns of ours that no table keeps start with an underscore, as no feature does.


def why_not(ruleset, kind: str) -> str | None:
    """What a ruleset lacks for suites of a kind, in words, or None."""
    if ruleset.is_observed:
        return "is that of a file of cases, which cannot be drawn"
    numbers = {feature.name for feature in ruleset.features if feature.kind == "number"}
    lacks = {
        "counterfactuals": not ruleset.hidden_rules and "has no hidden rule",
        "paraphrases": not ruleset.paraphrases and "lists no paraphrases",
        "decoys": not ruleset.decoys and "lists no decoys",
        "conflicts": not ruleset.hidden_rules and "has no hidden rule",
        "boundaries": not numbers & _named_by(ruleset.rules) and "has no rule about a number",
        "field_order": len(ruleset.features) < 2 and "has a single feature",
        "prevalence": not ruleset.hidden_rules and "has no hidden rule",
    }
    return lacks[kind] or None


@dataclass(frozen=True)
class SuiteSettings:
    """What suites are asked for: the config's section `suites`, and the seed of the draw.

    `size` families of each of `kinds`; `prevalence` is the share of applications in the suite of that name on which a
    hidden rule fires; it holds more than `size` where RARE_CASES such applications need more.
    """

    kinds: tuple[str, ...]
    size: int
    prevalence: float
    seed: int


def draw_suites(ruleset, wanted: SuiteSettings, train: pl.DataFrame, source="ruleset") -> pl.DataFrame:
    """The table of suites (`suites_schema`) of a ruleset, no family with an application of `train`.

    `source` names the ruleset in errors. The same arguments give the same table, and a kind does not depend on which
    others are asked for. Kinds of which no family can be drawn are left out, and of others there are as many families
    as there can be, if these are fewer than asked for; raises UserError if that leaves none.
    """
    trained_on = train.select(ruleset.feature_names)
    frames = [suites_schema(ruleset).to_frame()]
    for number, kind in enumerate(KINDS):
        if kind in wanted.kinds:
            rng = np.random.default_rng([wanted.seed, len(SPLITS) + number])
            drawn = _draw_suite(ruleset, kind, wanted, trained_on, rng)
            if drawn is None:
                continue
            first = pl.lit((len(SPLITS) + number) * ID_BLOCK, dtype=pl.Int64) + pl.col("family") * MEMBERS
            drawn = drawn.with_columns(suite=pl.lit(kind), family=first, application_id=first + pl.col("_member"))
            frames.append(drawn.select(frames[0].columns))
    if len(frames) == 1:
        fault = f"no family can be drawn of those that {' and '.join(wanted.kinds)} ask for"
        raise UserError(source, "features", fault, "leave suites out of evaluation, or widen the features")
    return pl.concat(frames)


def _draw_suite(ruleset, kind, asked: SuiteSettings, trained_on, rng) -> pl.DataFrame | None:
    """Decided rows of one kind with `family` (0, 1, …), `_member` and `role`, ordered by both; None without any."""
    size = asked.size
    if kind == "prevalence":
        size = max(size, math.ceil(RARE_CASES / asked.prevalence))
    found, n_found = [], 0
    available: dict[str, int] = {}  # families by stratum
    quota: dict[str, int] = {}
    grew = n_first = 0  # the last round that found a new family, and how many there were then
    for round_number in range(MAX_ROUNDS):
        if round_number - grew >= MIN_ROUNDS:  # there are no more, or too few to wait for
            break
        drawn = ruleset.draw(POOL, rng).unique(maintain_order=True)
        base = ruleset.decide(
            drawn.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in SHOWN.items())
        )
        for members, valid, stratum in MAKERS[kind](ruleset, base, rng):
            kept = _kept(ruleset, members, valid, stratum, trained_on)
            kept = kept.filter(pl.int_range(pl.len()).over("_stratum") < size)
            found.append(_families(members, kept, n_found))
            n_found += len(base)
        if not found:
            continue
        rows = pl.concat(found)
        first = rows.filter(_member=0).unique(ruleset.feature_names, keep="first", maintain_order=True)
        available = dict(sorted(first["_stratum"].value_counts().iter_rows()))
        if len(first) > n_first:
            grew, n_first = round_number, len(first)
        if kind == "prevalence":
            quota = _quota_of_prevalence(size, asked.prevalence, available)
        else:
            quota = fill_equally(size, available)
        if quota:
            even = kind == "prevalence" or max(quota.values()) - min(quota.values()) <= 1
            if even or round_number + 1 >= MIN_ROUNDS:
                break
    if not quota:
        if kind == "prevalence" or not available:
            return None
        quota = fill_equally(sum(available.values()), available)
    wanted = pl.DataFrame(list(quota.items()), schema={"_stratum": pl.String, "_quota": pl.Int64}, orient="row")
    chosen = (
        first.join(wanted, on="_stratum", how="left", maintain_order="left")
        .filter(pl.int_range(pl.len()).over("_stratum") < pl.col("_quota"))
        .select("family")
    )
    chosen = chosen[rng.permutation(len(chosen))].with_row_index("_number")
    return (
        rows.join(chosen, on="family", how="inner")
        .with_columns(family=pl.col("_number").cast(pl.Int64))
        .sort("family", "_member")
    )


def _kept(ruleset, members, valid, stratum, trained_on) -> pl.DataFrame:
    """`_row` and `_stratum` of the valid families without an application of `trained_on`.

    members: a role and a decided frame each, whose rows with the same number are one family; valid: a truth value a
    family; stratum: a text a family.
    """
    kept = pl.DataFrame({"_row": pl.int_range(len(valid), eager=True), "_stratum": stratum}).filter(valid)
    rows = pl.concat(frame.select(ruleset.feature_names).with_row_index("_row") for _, frame in members)
    trained = rows.join(trained_on, on=ruleset.feature_names, how="semi")
    return kept.filter(~pl.col("_row").is_in(trained["_row"].unique().implode()))


def _families(members, kept: pl.DataFrame, first: int) -> pl.DataFrame:
    """Rows of the families in `kept` (`_row`, `_stratum`), all members; families are numbered from `first`."""
    return pl.concat(
        frame[kept["_row"]].with_columns(
            family=first + kept["_row"], _member=pl.lit(i, dtype=pl.Int64), role=pl.lit(role), _stratum=kept["_stratum"]
        )
        for i, (role, frame) in enumerate(members)
    )


def _quota_of_prevalence(size: int, prevalence: float, available: dict[str, int]) -> dict[str, int]:
    """Applications on which a hidden rule fires and others; empty if there are too few."""
    n_fires = round(size * prevalence)
    quota = {"fires": n_fires, "other": size - n_fires}
    return quota if all(available.get(part, 0) >= wanted for part, wanted in quota.items()) else {}


# --- the kinds: each yields members (a role and a decided frame), which families are valid, and their strata ----------


def _counterfactuals(ruleset, base, rng):
    hidden = [feature for feature in ruleset.features if feature.name in _named_by(ruleset.hidden_rules)]
    unnamed = [feature for feature in ruleset.features if feature.name not in _named_by(ruleset.rules)]
    unhidden = [feature for feature in ruleset.features if feature not in hidden]
    flipped = ruleset.decide(_redraw(base, hidden, rng))
    other = ruleset.decide(_redraw(base, unnamed or unhidden or hidden, rng))
    valid = (
        (_fires(ruleset, base) != _fires(ruleset, flipped))
        & (base["label"] != flipped["label"])
        & (base["label_without_hidden"] == flipped["label_without_hidden"])
        & _alike(base, other, TRUTH)
        & ~_alike(base, other, ruleset.feature_names)
    )
    members = [("original", base), ("flipped", flipped), ("irrelevant_changed", other)]
    yield members, valid, _joined(base, "fired_rule", "label_without_hidden")


def _paraphrases(ruleset, base, rng):
    original, shown, wording = _reword(ruleset, base, ruleset.paraphrases, rng)
    valid = _fires(ruleset, original) & (original["label"] != original["label_without_hidden"])
    yield [("original", original), ("paraphrase", shown)], valid, wording + _joined(original, "label_without_hidden")


def _decoys(ruleset, base, rng):
    original, decoy, wording = _reword(ruleset, base, ruleset.decoys, rng)
    named = {wording.feature for wording in ruleset.decoys}
    triggers = {feature.name: trigger_values(ruleset, feature) for feature in ruleset.features if feature.name in named}
    harmless = {
        feature.name: [choice for choice in feature.choices if choice not in triggers[feature.name]]
        for feature in ruleset.features
        if feature.name in named
    }
    redrawn = original.with_columns(
        pl.when(decoy["shown_feature"] == name)
        .then(pl.Series(choices).gather(rng.integers(len(choices), size=len(base))))
        .otherwise(pl.col(name))
        .alias(name)
        for name, choices in harmless.items()
    )
    other = ruleset.decide(redrawn.drop(*TRUTH))
    hidden_labels = [rule.label for rule in ruleset.hidden_rules]
    valid = ~original["label"].is_in(hidden_labels)  # so no hidden rule fires, and to be fooled is to be wrong
    alone = decoy["shown_feature"].is_in([name for name, choices in harmless.items() if len(choices) == 1])
    stratum = wording + _joined(original, "label")
    differs = _alike(original, other, TRUTH) & ~_alike(original, other, ruleset.feature_names)
    yield [("original", original), ("decoy", decoy), ("other_value", other)], valid & differs, stratum
    yield [("original", original), ("decoy", decoy)], valid & alone, stratum


def _conflicts(ruleset, base, rng):
    hidden = [feature for feature in ruleset.features if feature.name in _named_by(ruleset.hidden_rules)]
    conflict = ruleset.decide(_redraw(base, hidden, rng))
    valid = (
        ~_fires(ruleset, base)
        & _fires(ruleset, conflict)
        & (base["label"] != ruleset.default)
        & (base["label"] != conflict["label"])
        & (base["label"] == conflict["label_without_hidden"])
    )
    yield [("original", base), ("conflict", conflict)], valid, base["fired_rule"]


def _boundaries(ruleset, base, rng):
    for rule in ruleset.rules:
        for feature in ruleset.features:
            if feature.kind == "number" and feature.name in rule.predicate.meta.root_names():
                yield from _boundaries_of(ruleset, rule, feature, base, rng)


def _boundaries_of(ruleset, rule, feature, base, rng):
    """Families on both sides of where one rule's answer changes with one feature, thresholds apart."""
    last = len(feature.values) - 1
    thresholds = (np.array(_literals(rule, feature)) - feature.low) / feature.step  # in steps from the lowest value
    on_grid = np.round(thresholds[np.abs(thresholds - np.round(thresholds)) < 1e-6]).astype(int)
    low, crosses = _crossings(rule, feature, np.round(thresholds).astype(int), base, rng)
    at = np.where(np.isin(low, on_grid), low, np.where(np.isin(low + 1, on_grid), low + 1, -1))
    for position in np.unique(at[crosses]):
        here = crosses & (at == position)
        if position >= 0:
            moves = [("at", low * 0 + position), ("below", low * 0 + position - 1), ("above", low * 0 + position + 1)]
            moves = [(role, positions) for role, positions in moves if 0 <= positions[0] <= last]
        else:
            moves = [("below", low), ("above", np.minimum(low + 1, last))]
        members = [(role, ruleset.decide(_set(base, feature, positions))) for role, positions in moves]
        first = members[0][1]["label"]
        changes = np.any([(frame["label"] != first).to_numpy() for _, frame in members[1:]], axis=0)
        name = f"{rule.name} {feature.name} {feature.values[int(position)] if position >= 0 else '-'}"
        yield members, pl.Series(here & changes), pl.Series([name]).new_from_index(0, len(base))


def _crossings(rule, feature, near, base, rng) -> tuple[np.ndarray, np.ndarray]:
    """For each row the position on the feature's grid after which the rule's answer changes, and whether one was found.

    Between two positions with different answers, one of them at random and the other, as often as not, within two steps
    of those `near` which a change may lie, bisection finds two neighbours with different answers.
    """
    n, last = len(base), len(feature.values) - 1

    def holds(positions):
        return _set(base, feature, positions).select(rule.predicate).to_series().to_numpy()

    low, high = rng.integers(last + 1, size=n), rng.integers(last + 1, size=n)
    if len(near):
        aimed = rng.choice(near, size=n) + rng.integers(-2, 3, size=n)
        high = np.where(rng.random(n) < 0.5, np.clip(aimed, 0, last), high)
    low, high = np.minimum(low, high), np.maximum(low, high)
    at_low = holds(low)
    crosses = at_low != holds(high)
    while (high - low > 1).any():
        middle = (low + high) // 2
        as_low = holds(middle) == at_low
        low, high = np.where(as_low, middle, low), np.where(as_low, high, middle)
    return low, crosses


def _field_order(ruleset, base, rng):
    names = np.array(ruleset.feature_names)
    orders = names[rng.permuted(np.tile(np.arange(len(names)), (len(base), 1)), axis=1)]
    shuffled = base.with_columns(field_order=pl.Series(orders.tolist(), dtype=pl.List(pl.String)))
    yield [("original", base), ("shuffled", shuffled)], pl.Series((orders != names).any(axis=1)), base["label"]


def _prevalence(ruleset, base, rng):
    fires = _fires(ruleset, base)
    yield [("drawn", base)], fires | True, fires.replace_strict({True: "fires", False: "other"})


MAKERS = {
    "counterfactuals": _counterfactuals,
    "paraphrases": _paraphrases,
    "decoys": _decoys,
    "conflicts": _conflicts,
    "boundaries": _boundaries,
    "field_order": _field_order,
    "prevalence": _prevalence,
}


# --- tools ------------------------------------------------------------------------------------------------------------


def _named_by(rules) -> set[str]:
    """Features that the predicates name."""
    return {name for rule in rules for name in rule.predicate.meta.root_names()}


def _fires(ruleset, decided: pl.DataFrame) -> pl.Series:
    """Whether a hidden rule decides each row."""
    return decided["fired_rule"].is_in([rule.name for rule in ruleset.hidden_rules])


def _alike(a: pl.DataFrame, b: pl.DataFrame, columns) -> pl.Series:
    """Whether two frames agree in all of `columns`, row by row."""
    return pl.select(pl.all_horizontal(a[name] == b[name] for name in columns)).to_series()


def _joined(frame: pl.DataFrame, *columns: str) -> pl.Series:
    return frame.select(pl.concat_str([pl.lit(""), *columns], separator=" ")).to_series()


def _redraw(base: pl.DataFrame, features, rng) -> pl.DataFrame:
    """`base`, undecided, with one of `features` in each row, taken at random, drawn anew (it may come out the same)."""
    which = pl.Series(rng.integers(len(features), size=len(base)))
    return base.drop(*TRUTH).with_columns(
        pl.when(which == i).then(feature.draw(len(base), rng)).otherwise(pl.col(feature.name)).alias(feature.name)
        for i, feature in enumerate(features)
    )


def _reword(ruleset, base: pl.DataFrame, wordings, rng) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series]:
    """`base` with the value of one of `wordings` in each row, the same shown in its words, and which one as text."""
    which = rng.integers(len(wordings), size=len(base))
    columns = [pl.Series([getattr(wording, part) for wording in wordings]) for part in ("feature", "value", "text")]
    feature, value, text = (column.gather(which) for column in columns)
    plain = base.drop(*TRUTH).with_columns(
        pl.when(feature == name).then(value).otherwise(pl.col(name)).alias(name) for name in columns[0].unique()
    )
    plain = ruleset.decide(plain)
    return plain, plain.with_columns(shown_feature=feature, shown_text=text), pl.Series(which).cast(pl.String)


def _literals(rule, feature) -> list[float]:
    """Numbers that the rule compares the feature with."""
    return [x for x in compared_literals(rule.when).get(feature.name, []) if isinstance(x, float)]


def _set(base: pl.DataFrame, feature, positions: np.ndarray) -> pl.DataFrame:
    """`base`, undecided, with the feature's values at `positions` on its grid."""
    return base.drop(*TRUTH, strict=False).with_columns(feature.values.gather(positions).alias(feature.name))
