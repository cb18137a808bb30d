"""New answers compared with earlier ones: has accuracy moved, or the mix of decisions? A table and one sentence."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.deployment.ask_answers import aligned
from hidden_rule.report.text.phrases import interval, p_text, percent, points, signed
from hidden_rule.statistics.drift import LEVEL, MixChange, ShareChange, mix_change, share_change


@dataclass(frozen=True)
class Sample:
    """Answers to cases: `predicted`, and `label` where it is known (null elsewhere); named as the table's column."""

    name: str
    answers: pl.DataFrame

    @property
    def n(self) -> int:
        return self.answers.height

    @property
    def labelled(self) -> pl.DataFrame:
        return self.answers.drop_nulls("label")

    def counts(self, labels) -> list[int]:
        """How many are decided each way."""
        return [self.answers.filter(predicted=label).height for label in labels]

    def hits(self, label: str | None = None) -> tuple[int, int]:
        """Right answers, and cases: with a label, or with one of them."""
        of = self.labelled if label is None else self.labelled.filter(label=label)
        return of.filter(pl.col("predicted") == pl.col("label")).height, of.height


@dataclass(frozen=True)
class Comparison:
    """What moved between two samples; accuracy: None where one of them has no labels."""

    before: Sample
    after: Sample
    labels: tuple[str, ...]
    accuracy: ShareChange | None
    mix: MixChange
    level: float  # of each test

    @property
    def accuracy_moved(self) -> bool:
        return self.accuracy is not None and self.accuracy.p_value < self.level

    @property
    def mix_moved(self) -> bool:
        return self.mix.p_value < self.level

    @property
    def moved(self) -> bool:
        return self.accuracy_moved or self.mix_moved


def compare(before: Sample, after: Sample, labels: tuple[str, ...]) -> Comparison:
    """Both samples hold one answer at least; accuracy is compared where both have labels."""
    (hits_a, n_a), (hits_b, n_b) = before.hits(), after.hits()
    level = LEVEL / 2 if n_a and n_b else LEVEL
    accuracy = share_change(hits_a, n_a, hits_b, n_b, level) if n_a and n_b else None
    return Comparison(before, after, labels, accuracy, mix_change(before.counts(labels), after.counts(labels)), level)


def table(found: Comparison) -> list[str]:
    """The comparison as lines for a terminal: accuracy, recall of each label, shares of decisions."""
    before, after, change = found.before, found.after, found.accuracy
    confidence = f"{100 * (1 - found.level):g}% CI"
    rows = [["", before.name, after.name, "difference", "p"]]
    if change:
        shares = [f"{percent(share)} of {n:,}" for share, n in ((change.a, change.n_a), (change.b, change.n_b))]
        difference = f"{signed(change.difference)} ({confidence} {interval(change.low, change.high)})"
        rows.append(["accuracy", *shares, difference, p_value(change.p_value)])
        rows += [_recall(before, after, label) for label in found.labels]
    shares = [f"{found.mix.distance:.1%} shifted", p_value(found.mix.p_value)]
    rows.append(["mix of decisions", f"{before.n:,} cases", f"{after.n:,} cases", *shares])
    for i, label in enumerate(found.labels):
        a, b = found.mix.a[i] / before.n, found.mix.b[i] / after.n
        rows.append([f"  decided {label}", percent(a), percent(b), signed(b - a), ""])
    return aligned(rows, numbers=(1, 2))


def _recall(before: Sample, after: Sample, label: str) -> list[str]:
    (hits_a, n_a), (hits_b, n_b) = before.hits(label), after.hits(label)
    cells = [f"{percent(hits / n)} of {n:,}" if n else "none" for hits, n in ((hits_a, n_a), (hits_b, n_b))]
    return [f"  recall of {label}", *cells, signed(hits_b / n_b - hits_a / n_a) if n_a and n_b else "", ""]


def p_value(p: float) -> str:
    return p_text(p).removeprefix("p = ").removeprefix("p ")


def sentence(found: Comparison) -> str:
    """What moved, and what a comparison of this size could not have seen."""
    change, parts = found.accuracy, []
    if change and found.accuracy_moved:
        way = "fell" if change.difference < 0 else "rose"
        parts.append(f"Accuracy {way} by {points(abs(change.difference))} points ({p_text(change.p_value)})")
    elif change:
        seen = "too few cases to notice any change"
        if change.mde < 1:
            seen = f"a change of less than {points(change.mde)} points could go unnoticed"
        parts.append(f"Accuracy did not move ({p_text(change.p_value)}; {seen})")
    said = f"({p_text(found.mix.p_value)})"
    mix = f"the mix of decisions moved {said}" if found.mix_moved else f"the mix of decisions did not move {said}"
    if not parts:
        return f"{mix[0].upper()}{mix[1:]}; without labels accuracy is unknown."
    joined = "and" if found.accuracy_moved == found.mix_moved else "but"
    return f"{parts[0]}, {joined} {mix}."
