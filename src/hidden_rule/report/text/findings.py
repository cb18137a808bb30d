"""The report's answer: sentences made from numbers, in the order of a reader's questions.

No sentence is printed that its numbers do not support; each rule and its thresholds stand in the module of its topic. A
verdict looks at a 95% interval, never at a value alone. Two conditions differ if the interval of their difference and
its p-value both say so. p-values are adjusted for all pairs that are compared (Holm); intervals are not.
"""

import polars as pl

from hidden_rule.experiment.runs import Setting, find_estimate
from hidden_rule.report.text.baselines import best_reference_sentence, reference_sentence, without_most_references
from hidden_rule.report.text.caveats import change_sentences, method_sentences, scope_sentence
from hidden_rule.report.text.comparisons import best_of, difference_sentences, differs, family_sentences, rivals_of
from hidden_rule.report.text.phrases import listing, with_interval
from hidden_rule.report.text.rule_learning import (
    free_sentence,
    hidden_sentences,
    hidden_verdict,
    policy_sentences,
    policy_verdict,
    suite_findings,
    suite_sentences,
)
from hidden_rule.report.text.training_cost import price_sentences
from hidden_rule.report.text.training_runs import (
    collapse_sentences,
    still_rising,
    stopped_sentences,
    validation_sentences,
)

NAMED = 4  # the headline names as many conditions in a row; of more it says how many


def named(others) -> str:
    """Conditions other than the best one, in the headline; the sections name all of them."""
    return listing(others) if len(others) <= NAMED else f"{len(others)} others"


def headline(order, accuracies: dict, comparisons: list[dict], hidden: dict, chance: float, aside: str = "") -> str:
    """The answer in one sentence or two, about the conditions in `order`.

    accuracies: row of each condition; comparisons: pooled rows of accuracy; hidden: `hidden_verdict` of each condition;
    aside: names what `order` leaves out, after a comma.
    """
    none = f"No condition{aside}," if aside else "No condition"
    best = best_of(order, accuracies)
    if policy_verdict(accuracies[best], chance) in ("chance", "below"):
        return f"{none} can be said to do better than chance: nothing was learnt that these applications show."
    rivals = {name for name, *_ in rivals_of(best, comparisons)}
    alone = [row for row in comparisons if differs(row, "p_value")]
    hidden_by_number = {name for name, *_ in rivals_of(best, alone)}
    close = [name for name in order if name in rivals - hidden_by_number]
    unsure = [name for name in order if name in hidden_by_number]
    value = with_interval(accuracies[best])
    if close or unsure:
        first = f"{best} decides rightly most often{aside}, {value}, but "
        among = f"among {len(comparisons)} comparisons"
        if close:
            first += f"{named(close)} cannot be told apart from it"
            first += f", nor, {among}, {named(unsure)}." if unsure else "."
        else:
            first += f"{among} {named(unsure)} cannot be told apart from it."
    else:
        first = f"{best} decides best{aside}: {value} of its decisions are right."
    if set(hidden.values()) == {"unknown"}:
        return first
    learnt = [name for name in order if hidden[name] == "learnt"]
    if len(learnt) > NAMED:
        whether = "among" if best in learnt else "not among"
        return f"{first} The hidden rule was learnt by {len(learnt)} of {len(order)} conditions, {best} {whether} them."
    if learnt:
        return f"{first} The hidden rule was learnt by {listing(learnt)}."
    return f"{first} {none} can be said to have learnt the hidden rule."


def pooled_pairs(comparisons: pl.DataFrame) -> list[dict]:
    """Pooled rows of one family of comparisons, the largest difference first.

    Each with `of_seeds`, the differences under each seed, and `n_compared`, how many there are.
    """
    pair = ["condition_a", "condition_b"]
    pooled, by_seed = (comparisons.filter(pl.col("seed").is_null() == is_pooled) for is_pooled in (True, False))
    of_seeds = by_seed.sort("seed").group_by(pair).agg(of_seeds="difference")
    rows = (
        pooled.join(of_seeds, on=pair, how="left", maintain_order="left").with_columns(n_compared=pl.len()).to_dicts()
    )
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def is_balanced(metrics: pl.DataFrame, condition: str, reading: tuple) -> bool:
    """Whether each decision is right equally often, give or take one application."""
    of_labels = metrics.filter(
        pl.col("seed").is_not_null(), condition=condition, suite=reading[0], decoding=reading[1], metric="recall"
    )
    counts = of_labels["n"].to_list()
    return bool(counts) and max(counts) - min(counts) <= 1


def conclude(
    metrics,
    comparisons,
    histories,
    trained,
    labels,
    order,
    reading,
    free=None,
    feasible=(),
    collapse=None,
    costs=None,
    starts=None,
    about=None,
    references=None,
    told=(),
    shortcuts=(),
) -> dict:
    """The answer: `headline`, `scope`, and `sections`, a list of (title, list of (heading, sentences)).

    metrics, comparisons, collapse, costs: tables; histories: frames; trained: [condition, seed, method] of each; order:
    conditions; reading: (suite, decoding) that the answer is about; free: one under free decoding, if there is another;
    feasible: `feasibility_sentences`; starts: the condition that each trained one starts from, None for the base model;
    about: `model`, `ruleset`, `train` and `validation` as `method_sentences` and `still_rising` take them, and
    `without_signal`, conditions whose first groups held nothing to learn from; references: what each condition is that
    is there for comparison alone; told: sentences about labels and label noise; shortcuts: about conditions that
    decide by one feature.
    """
    references = {name: what for name, what in (references or {}).items() if name in order}
    contenders = [name for name in order if name not in references] or order
    beside = references if contenders is not order else {}  # references alone are compared with each other
    chance, about = 1 / len(labels), about or {}
    starts = {condition: None for condition, *_ in trained} if starts is None else starts
    accuracies = {name: find_estimate(metrics, name, Setting(*reading), "accuracy") for name in order}
    recalls = {name: find_estimate(metrics, name, Setting(*reading), "hidden_recall") for name in order}
    precisions = {name: find_estimate(metrics, name, Setting(*reading), "hidden_precision") for name in order}
    base_rates = {name: recalls[name].n / accuracies[name].n for name in order}
    hidden = {name: hidden_verdict(recalls[name], precisions[name], base_rates[name]) for name in order}
    of_reading = {"suite": reading[0], "decoding": reading[1], "metric": "accuracy"}
    pairs = pooled_pairs(comparisons.filter(**of_reading))
    n_seeds = metrics["seed"].drop_nulls().n_unique()
    n = metrics.filter(pl.col("seed").is_not_null(), **of_reading)["n"].max()
    best = best_of(contenders, accuracies)
    shown = without_most_references(pairs, contenders, beside, accuracies)
    own = [row for row in pairs if not {row["condition_a"], row["condition_b"]} & {*beside}]
    above = [name for name in contenders if policy_verdict(accuracies[name], chance) in ("learnt", "partly")]
    trainable = [name for name in order if name not in references]
    with_best = [row for row in shown if best in (row["condition_a"], row["condition_b"])]
    rising = still_rising(trained, histories, about["validation"]) if about.get("validation") else []
    method = method_sentences(
        about,
        n,
        n_seeds,
        is_balanced=is_balanced(metrics, best, reading),
        has_suites=any(sum(map(len, suite_findings(metrics, name).values())) for name in order),
        has_free=bool(free) or reading[1] == "free",
    )
    sections = {
        "Which method, how sure, at what price": {
            "How sure is it?": [*difference_sentences(best, with_best), *family_sentences(pairs, n_seeds)]
            or ["There is one condition alone, and nothing to compare."],
            "At what price?": price_sentences(best, own, costs, starts, above) if best in above else [],
        },
        "What each learnt and did not": {
            "Who learnt the policy?": policy_sentences(trainable, accuracies, chance),
            "Who learnt the hidden rule?": hidden_sentences(trainable, recalls, precisions, base_rates),
            "What do references reach?": [
                reference_sentence(name, what, accuracies[name], recalls[name], precisions[name])
                for name, what in references.items()
            ],
            "With how many labels, and how wrong?": list(told),
            "What do the suites show?": suite_sentences(metrics, above),
            f"And when replies are not held to a form{f' ({free[0]})' if free else ''}?": [
                free_sentence(
                    name,
                    find_estimate(metrics, name, Setting(*free), "accuracy"),
                    find_estimate(metrics, name, Setting(*free), "invalid_rate"),
                )
                for name in (order if free else [])
                if find_estimate(metrics, name, Setting(*free), "accuracy")
            ],
        },
        "Why": {
            "Could reward teach it from where it started?": list(feasible),
            "Did training by reward collapse?": collapse_sentences(collapse) + stopped_sentences(trained, histories),
            "Does one feature decide?": list(shortcuts),
            "How did training go?": validation_sentences(trained, histories),
        },
        "What would change the answer": {
            "": change_sentences(
                best if best in above else None,
                own,
                n,
                n_seeds,
                failed=suite_findings(metrics, best)["fails"],
                rising=rising,
                unheard=[
                    name
                    for name in about.get("without_signal", ())
                    if policy_verdict(accuracies[name], chance) != "learnt"
                ],
                is_trained=bool(trained),
            ),
        },
        "Method and threats to validity": {"": method},
    }
    answer = headline(contenders, accuracies, pairs, hidden, chance, ", references aside" if beside else "")
    if beside:
        answer = f"{answer} {best_reference_sentence(beside, accuracies)}"
    return {
        "headline": answer,
        "scope": scope_sentence(n, n_seeds),
        "sections": [
            (title, [(heading, sentences) for heading, sentences in parts.items() if sentences])
            for title, parts in sections.items()
        ],
    }
