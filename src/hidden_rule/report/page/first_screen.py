"""What a reader sees first: the verdict, how far to trust it, three numbers, accuracies, what not to conclude."""

from dataclasses import asdict, dataclass

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.charts.style import condition_colours
from hidden_rule.report.tables import seed_range
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.evidence import Evidence, gather
from hidden_rule.report.text.expected_cost import cost_evidence
from hidden_rule.report.text.phrases import (
    amount,
    amount_interval,
    duration,
    in_table,
    interval,
    money,
    percent,
)
from hidden_rule.report.text.training_cost import RunCost, run_costs
from hidden_rule.report.text.verdict import Verdict, do_not_conclude, reach_verdict

ROWS = 9  # conditions in the picture: the others stand in the scorecard
REFERENCES = 3  # of them, at most, where conditions are left out
LEARNED = {  # verdicts on a hidden rule, in a word or two
    "learned": "learned", "missed": "not learned", "no_evidence": "no evidence", "over_applied": "over-applied",
    "partly": "partly learned", "unknown": "untested",
}  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """A number of the verdict's subject."""

    label: str
    value: str
    interval: str
    note: str = ""


def first_screen(results: Results) -> dict:
    """What the template's first screen shows."""
    found, expected = gather(results), cost_evidence(results)
    verdict = reach_verdict(results, found, expected)
    cases = f"{found.n:,} {results.ruleset.case.many if found.n > 1 else results.ruleset.case.one}"
    return {
        "verdict": verdict.words,
        "condition": verdict.subject,
        "subject": f"{role(results, found, verdict)}: {verdict.subject}",
        "seeds": f"{len(results.seeds)} seeds" if len(results.seeds) > 1 else "",
        "trust": f"{cases} · {results.config['model']['id']}",
        "badges": badges(results),
        "tiles": [asdict(tile) for tile in tiles(results, found, verdict)],
        "picture": picture(results, found, verdict),
        "cautions": do_not_conclude(results, found, expected, verdict),
    }


def role(results: Results, found: Evidence, verdict: Verdict) -> str:
    """As what the verdict's subject stands above its numbers; a headline on a reference is not about the subject."""
    if verdict.subject not in results.starts:
        return "Shown"
    if any(name in verdict.words for name in found.references):
        return "If a language model is needed"
    return "Recommended" if verdict.decided and verdict.subject in verdict.words else "Training"


def tiles(results: Results, found: Evidence, verdict: Verdict) -> list[Tile]:
    """Expected cost where there is one, accuracy, hidden rules and training time of the verdict's subject."""
    name = verdict.subject
    known = run_costs(results.costs, results.starts, results.config.get("price_per_hour"))
    shown = [accuracy_tile(results, found.accuracies[name]), hidden_tile(results, found, name)]
    shown.append(cost_tile(known.get(name)))
    expected = cost_evidence(results)
    if expected is None or name not in expected.costs:
        return shown
    of = expected.costs[name]
    mistakes = f"95% CI {amount_interval(of.low, of.high)}"
    tile = Tile("Cost of mistakes", f"{amount(of.value)} {expected.unit}", mistakes, "per 1,000 cases")
    return [tile, *(shown if found.hidden else [shown[0], shown[2]])]


def accuracy_tile(results: Results, of: Estimate) -> Tile:
    guess = f"{results.chance.words} {percent(results.chance)}"
    return Tile("Accuracy", percent(of.value), f"95% CI {interval(of.low, of.high)}", guess)


def hidden_tile(results: Results, found: Evidence, name: str) -> Tile:
    """Recall on the hidden rule, how many of several were learned, or macro-F1 where there is none."""
    if not found.hidden:
        score = results.estimate(name, results.main, "macro_f1")
        if score is None:
            return Tile("Hidden rule", "none", "the ruleset has none")
        return Tile("Macro-F1", percent(score.value), f"95% CI {interval(score.low, score.high)}", "mean of decisions")
    recall = results.estimate(name, results.main, "hidden_recall")
    if recall is None:
        return Tile("Hidden rule", "untested", "it applies to no case here")
    bounds = f"95% CI {interval(recall.low, recall.high)}"
    if len(found.hidden) == 1:
        return Tile("Hidden rule: recall", percent(recall.value), bounds, LEARNED[found.hidden[0].verdict(name)])
    learned = sum(of.verdict(name) == "learned" for of in found.hidden)
    return Tile("Hidden rules learned", f"{learned} of {len(found.hidden)}", f"recall {in_table(recall)}")


def cost_tile(cost: RunCost | None) -> Tile:
    """Training time per seed, and its price where the config states one."""
    if cost is None or cost.training is None:
        return Tile("Training", "none", "no training", "")
    of = cost.training
    ends = "one seed" if of.least == of.most else f"seeds {duration(of.least)} to {duration(of.most)}"
    note = "idle machine" if of.is_estimate else "wall time"
    if cost.price is not None:
        note += f", price {money(cost.price)}"
    return Tile("Training time", duration(of.seconds), ends, note)


def picture(results: Results, found: Evidence, verdict: Verdict) -> dict:
    """Accuracy with 95% CI of the conditions, a row each, and the accuracy of guessing. Shares are in percent."""
    names = rows_shown(found, verdict)
    colours = condition_colours(results)
    rows = [row_of(results, found, name) | {"colour": colours[name]} for name in names]
    return {
        "rows": rows,
        "left_out": len(found.accuracies) - len(rows),
        "n": len(found.accuracies),
        "chance": round(100 * results.chance, 2),
        "guess": f"{results.chance.words} {percent(results.chance)}",
        "caption": f"Accuracy, {results.main.words}: value and 95% CI",
        "hollow": any(row["hollow"] for row in rows),
    }


def row_of(results: Results, found: Evidence, name: str) -> dict:
    """A row of the picture."""
    of = found.accuracies[name]
    one = results.metrics.filter(
        pl.col("seed").is_not_null(), pl.col("label").is_null(), condition=name, metric="accuracy",
        **results.main.columns,
    )  # fmt: skip
    seeds = [round(100 * value, 2) for value in one["value"].drop_nulls().to_list()]
    ends = seed_range(results.range_over_seeds(name, results.main, "accuracy"))
    return {
        "name": name,
        "at": round(100 * of.value, 2),
        "low": round(100 * of.low, 2),
        "high": round(100 * of.high, 2),
        "value": percent(of.value),
        "interval": interval(of.low, of.high),
        "hollow": name in found.references,
        "seeds": seeds if len(seeds) > 1 else [],
        "title": f"{name}: {in_table(of)}" + (f"; seeds {ends}" if len(seeds) > 1 else ""),
    }


def rows_shown(found: Evidence, verdict: Verdict) -> list[str]:
    """All conditions, the most accurate first, references last; of many the verdict's subject and the best of each."""
    ranked = sorted(found.accuracies, key=lambda name: -found.accuracies[name].value)
    own = [name for name in ranked if name not in found.beside]
    beside = [name for name in ranked if name in found.beside]
    if len(ranked) > ROWS:
        beside = beside[:REFERENCES]
        untrained = [name for name in own if found.policy_verdict(name) in ("chance", "below")][-1:]
        kept = [verdict.subject, *untrained]
        kept += [name for name in own if name not in kept][: ROWS - len(beside) - len(kept)]
        own = [name for name in own if name in kept]
    return [*own, *beside]
