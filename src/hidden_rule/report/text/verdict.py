"""The verdict in at most twelve words, and what not to conclude from it.

It says what the headline says, from the same tests: two conditions differ as `comparisons.differs` has it, a condition
learned as `policy_verdict` has it, and a classifier suffices as `matching_references` has it. Of conditions that are
statistically tied the one that trains fastest is recommended, unless the comparison is imprecise (SMALL_LEAD). With
decision costs, conditions are ranked by expected cost.
"""

import re
from dataclasses import dataclass, replace

from hidden_rule.experiment.display import model_words
from hidden_rule.experiment.results import Results
from hidden_rule.report.text.badges import ONE_SEED, SMOKE, badges
from hidden_rule.report.text.baselines import classifiers_of, matching_references
from hidden_rule.report.text.comparisons import differs, turned
from hidden_rule.report.text.evidence import Evidence
from hidden_rule.report.text.expected_cost import CostEvidence
from hidden_rule.report.text.phrases import amount, amount_interval, interval, listing, points
from hidden_rule.report.text.suites import suite_findings
from hidden_rule.report.text.training_cost import SMALL_LEAD, RunCost, run_costs
from hidden_rule.statistics.training_costs import chain

WORDS = 12  # of a verdict, at most
NAME_WORDS = (4, 2, 1)  # of a condition's name: as many as fit
NAME_SIZE = 28  # characters of it
CAUTIONS = 2
TIED = "{name} and {other} are statistically tied"
NAMED = 3  # suites that a caution names


@dataclass(frozen=True)
class Verdict:
    """The answer in a line."""

    words: str  # at most WORDS
    subject: str  # the condition that it recommends, or the best one
    decided: bool  # whether it recommends something


@dataclass(frozen=True)
class Ranking:
    """By what conditions are ranked: accuracy, or the expected cost of mistakes."""

    values: dict[str, float]  # by condition, the higher the better
    pairs: list[dict]  # pooled comparisons of it; a positive difference is in favour of `condition_a`
    by_cost: bool

    def row(self, name: str, other: str) -> dict | None:
        """Their comparison with `name` as `condition_a`; None where it was not planned."""
        rows = [row for row in self.pairs if {row["condition_a"], row["condition_b"]} == {name, other}]
        return turned(rows[0], name) if rows else None

    def relation(self, name: str, other: str) -> str:
        """`better`, `worse` or `tied` by a planned comparison, else `untested`."""
        row = self.row(name, other)
        if row is None:
            return "untested"
        return "tied" if not differs(row) else "better" if row["difference"] > 0 else "worse"


def ranking_of(found: Evidence, expected: CostEvidence | None) -> Ranking:
    """By expected cost where there are decision costs, else by accuracy."""
    if expected is None:
        return Ranking({name: of.value for name, of in found.accuracies.items()}, found.pairs, by_cost=False)
    pairs = [
        row | {"difference": -row["difference"], "ci_low": -row["ci_high"], "ci_high": -row["ci_low"]}
        for row in expected.pairs
    ]
    return Ranking({name: -of.value for name, of in expected.costs.items()}, pairs, by_cost=True)


def fitted(text: str, **names: str) -> str:
    """`text` with the names of conditions, shortened as far as WORDS asks for."""
    for limit in NAME_WORDS:
        said = text.format(**{key: shortened(name, limit) for key, name in names.items()})
        if n_words(said) <= WORDS:
            break
    return said


def n_words(text: str) -> int:
    """Words with a letter or digit: an arrow is none."""
    return len([word for word in text.split() if re.search(r"\w", word)])


def shortened(name: str, limit: int) -> str:
    """A name in at most `limit` words and NAME_SIZE characters, with an ellipsis where it was longer."""
    words = name.split()
    kept = [word for i, word in enumerate(words) if n_words(" ".join(words[: i + 1])) <= limit]
    text = " ".join(kept)[:NAME_SIZE].rstrip(" →")
    return text if text == " ".join(words) else f"{text}…"


def reach_verdict(results: Results, found: Evidence, expected: CostEvidence | None) -> Verdict:
    """The verdict of an experiment, conditions by the names in `results`."""
    ranking = ranking_of(found, expected)
    known = run_costs(results.costs, results.starts, results.config.get("price_per_hour"))
    contenders = [name for name in found.contenders if name in ranking.values]
    best = max(contenders, key=lambda name: ranking.values[name])
    verdict = of_trainings(results, found, ranking, known, best)
    if results.starts and (reference := of_reference(results, found, ranking, best)):
        verdict = replace(reference, subject=verdict.subject)
    if SMOKE in badges(results):
        return replace(verdict, words="Smoke test: no conclusion about any method", decided=False)
    return verdict


def of_reference(results: Results, found: Evidence, ranking: Ranking, best: str) -> Verdict | None:
    """The verdict where a classifier does as well as the best condition; None where none does."""
    kinds = classifiers_of(results.config, found)
    if ranking.by_cost:
        good = [
            name
            for name in kinds
            if name in ranking.values
            and (
                (relation := ranking.relation(name, best)) in ("better", "tied")
                or (relation == "untested" and ranking.values[name] >= ranking.values[best])
            )
        ]
        first = max(good, key=lambda name: ranking.values[name], default=None)
        tested = first is not None and ranking.relation(first, best) != "untested"
    else:
        matches = matching_references(kinds, found.best, found.accuracies, found.pairs)
        first, tested = (matches[0].reference, matches[0].relation != "higher") if matches else (None, False)
    if first is None:
        return None
    if kinds[first] == "constant":
        return Verdict("No training beats always giving the most frequent decision", best, decided=False)
    does = "costs less" if ranking.by_cost else "beats it"
    text = "{ref} suffices; no training " + does if tested else "{ref} does as well as {best}; not tested"
    return Verdict(fitted(text, ref=first, best=best), best, decided=tested)


def of_trainings(results: Results, found: Evidence, ranking: Ranking, known: dict[str, RunCost], best: str) -> Verdict:
    """The verdict on the conditions that are no references."""
    trained = [name for name in found.contenders if name in results.starts]
    if not trained:
        return Verdict("Nothing was trained: no method to recommend", best, decided=False)
    if not set(trained) & set(found.above):
        guess = "chance" if not results.ruleset.is_observed else "the most frequent decision"
        return Verdict(f"No training beats {guess}", best, decided=False)
    if best not in trained:
        return Verdict(fitted("Do not train: no method beats {best}", best=best), best, decided=True)
    tied = [name for name in found.contenders if name != best and ranking.relation(best, name) == "tied"]
    if plain := [name for name in tied if name not in trained]:
        text = "Undecided: {best} is statistically tied with {plain}"
        return Verdict(fitted(text, best=best, plain=plain[0]), best, decided=False)
    if not ranking.by_cost and any(ranking.row(best, name)["ci_high"] >= SMALL_LEAD for name in tied):  # type: ignore[index]
        text = f"{len(tied) + 1} conditions are statistically tied" if len(tied) > 1 else TIED
        return Verdict(fitted(f"Undecided: {text}", name=best, other=tied[0]), best, decided=False)
    name = recommended(best, tied, found, ranking, known)
    return Verdict(recommendation(results, found, ranking, known, name), name, decided=True)


def recommended(best: str, tied: list[str], found: Evidence, ranking: Ranking, known: dict[str, RunCost]) -> str:
    """The one of the tied conditions that trains fastest; the best where that is not known."""
    able = [name for name in [best, *tied] if name in found.above and name in known]
    able = [name for name in able if not any(ranking.relation(name, other) == "worse" for other in found.contenders)]
    if best not in able or len({known[name].devices for name in able}) > 1:
        return best
    return min(able, key=lambda name: known[name].training_s)


def recommendation(results: Results, found: Evidence, ranking: Ranking, known: dict[str, RunCost], name: str) -> str:
    """What stands for a condition that is not significantly worse than any other: ties, then what was not tested."""
    others = [other for other in found.contenders if other != name]
    relations = {other: ranking.relation(name, other) for other in others}
    tied = [other for other in others if relations[other] == "tied"]
    untested = [other for other in others if relations[other] == "untested" and other in results.starts]
    learned = found.policy_verdict(name) == "learned"
    if tied:
        return tie_words(results, known, name, tied)
    if untested:
        lead = "lowest cost" if ranking.by_cost else "most accurate"
        text = "Train with {name}: " + lead + ", but not tested against "
        text += "{other}" if len(untested) == 1 else "all others"
        return fitted(text, name=name, other=untested[0])
    if not learned:
        return fitted("{name} is best, but learned only part of the policy", name=name)
    if any(other in results.starts for other in others):
        end = "the lowest expected cost of all methods" if ranking.by_cost else "it beats every other method"
        return fitted("Train with {name}: " + end, name=name)
    return fitted("Train with {name}: it learned the policy", name=name)


def tie_words(results: Results, known: dict[str, RunCost], name: str, tied: list[str]) -> str:
    """Why one of several tied conditions is recommended."""
    other = tied[0]
    on_top = [one for one in tied if name in chain(one, results.starts)]
    if len(on_top) == len(tied) == 1:
        method = results.settings[other]["method"].upper()
        return fitted("Train with {name}; " + method + " on top adds nothing significant", name=name)
    if len(on_top) == len(tied):
        return fitted("Train with {name}; further training adds nothing significant", name=name)
    slower = [one for one in tied if name in known and one in known and known[name].training_s < known[one].training_s]
    if len(tied) > 1:
        n = len(tied) + 1
        if len(slower) < len(tied):
            return f"No clear winner: {n} conditions are statistically tied"
        return fitted(f"Train with {{name}}: fastest of {n} statistically tied conditions", name=name)
    text = "Train with {name}: statistically tied with {other}, but faster" if slower else TIED
    return fitted(text, name=name, other=other)


def do_not_conclude(results: Results, found: Evidence, expected: CostEvidence | None, verdict: Verdict) -> list[str]:
    """What the numbers do not support: the CAUTIONS that matter most, each a clause after "that"."""
    name, several = verdict.subject, results.separate_rules
    suites = suite_findings(results.metrics, name, several)
    failed = suites["fails"]
    lines = ["any method is better: a smoke test trains too little"] if SMOKE in badges(results) else []
    if ONE_SEED in badges(results) and results.trained:
        lines.append("another seed gives the same ranking: each condition was trained once")
    lines += unproven(ranking_of(found, expected), found, name, expected.unit if expected else None)
    if failed:
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        shown = ", ".join(failed[:NAMED]) if more else listing(failed)
        lines.append(f"{name} generalizes: it fails {shown}{more}")
    if results.ruleset.is_observed:
        lines.append("the decisions are right: accuracy is agreement with past decisions")
    elif not any(suites.values()) and found.hidden:
        what = "rules" if several else "rule"
        lines.append(f"{name} understood the hidden {what}: no generalization suites were evaluated")
    lines.append(f"other models do the same: one base model, {model_words(results.config['model'])}")
    train = results.config["data"]["train"]
    lines.append(f"other training data give the same: one set of {train:,} {results.ruleset.case.many}")
    return lines[:CAUTIONS]


def unproven(ranking: Ranking, found: Evidence, name: str, unit: str | None) -> list[str]:
    """That a lead is not significant, the largest one, and that a pair was not compared."""
    others = [other for other in found.contenders if other != name and other in ranking.values]
    rows = [row for other in others if (row := ranking.row(name, other)) and not differs(row)]
    lines = []
    if rows:
        row = max(rows, key=lambda row: abs(row["difference"]))
        row = turned(row, row["condition_a"] if row["difference"] >= 0 else row["condition_b"])
        low, high = row["ci_low"], row["ci_high"]
        lead = abs(row["difference"])  # no minus sign before a zero
        size = f"{points(lead)} points, 95% CI {interval(low, high)}"
        if unit:
            size = f"{amount(lead)} {unit}, 95% CI {amount_interval(low, high)}"
        after = " after Holm correction" if differs(row, "p_value") else ""
        lines.append(f"{row['condition_a']} is better than {row['condition_b']}: not significant{after} ({size})")
    unknown = [other for other in others if ranking.relation(name, other) == "untested"]
    if unknown:
        shown = listing(unknown) if len(unknown) <= NAMED else f"{len(unknown)} other conditions"
        lines.append(f"{name} is better than {shown}: no planned comparison")
    return lines
