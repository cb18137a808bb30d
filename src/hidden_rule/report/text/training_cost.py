"""What conditions cost, in sentences: the best one against the cheapest that cannot be told apart from it."""

import polars as pl

from hidden_rule.report.text.comparisons import rivals_of
from hidden_rule.report.text.phrases import duration, percent, points

AT_STAKE = 0.05  # the largest lead that an interval allows: below that the price may decide between two conditions


def chain(condition: str, starts: dict[str, str | None]) -> list[str]:
    """A condition and those whose adapters it starts from, the last first; starts: what each starts from."""
    found = []
    while condition and condition not in found:
        found.append(condition)
        condition = starts.get(condition)
    return found


def price_of(costs: pl.DataFrame, condition: str, starts: dict[str, str | None]) -> dict | None:
    """Means over seeds: seconds and tokens of training, with what it started from, and those of evaluation.

    costs: table COSTS. None where the condition was not evaluated, or a training of its chain has no costs.
    """
    means = costs.group_by("condition", "stage").agg(
        pl.mean("wall_s", "n_tokens_trained", "n_tokens_generated"), pl.col("device").unique()
    )
    found = {(row["condition"], row["stage"]): row for row in means.to_dicts()}
    evaluated = found.get((condition, "evaluate"))
    trained = [name for name in chain(condition, starts) if name in starts]
    if evaluated is None or any((name, "train") not in found for name in trained):
        return None
    rows = [found[name, "train"] for name in trained]
    return {
        "from": trained[1:],
        "train_s": sum(row["wall_s"] for row in rows),
        "tokens_trained": sum(row["n_tokens_trained"] or 0 for row in rows),
        "tokens_generated": sum(row["n_tokens_generated"] or 0 for row in rows),
        "evaluate_s": evaluated["wall_s"],
        "evaluate_tokens": evaluated["n_tokens_generated"] or 0,
        "devices": {device for row in [*rows, evaluated] for device in row["device"]},
    }


def price_sentence(condition: str, price: dict) -> str:
    """What one run of a condition takes."""
    if price["train_s"] == 0:
        training = f"{condition} needs no training"
    else:
        with_starts = f", with {' and '.join(price['from'])} from which it starts" if price["from"] else ""
        generated = f", {price['tokens_generated']:,.0f} generated" if price["tokens_generated"] else ""
        training = (
            f"{condition} takes {duration(price['train_s'])} of training a seed ({price['tokens_trained']:,.0f} tokens "
            f"trained on{generated}{with_starts})"
        )
    return (
        f"{training} and {duration(price['evaluate_s'])} to answer the evaluation "
        f"({price['evaluate_tokens']:,.0f} tokens written)."
    )


def price_sentences(best: str, pairs: list[dict], costs: pl.DataFrame | None, starts: dict, above) -> list[str]:
    """The price of the best condition, and whether one that cannot be told apart from it is cheaper to train.

    pairs: pooled comparisons of accuracy; starts: what each trained condition starts from, None for the base model;
    above: conditions that do better than chance: another saves nothing, whatever it cannot be told apart from.
    """
    price = None if costs is None else price_of(costs, best, starts)
    if price is None:
        return []
    sentences = [price_sentence(best, price)]
    rivals = [(*rival, price_of(costs, rival[0], starts)) for rival in rivals_of(best, pairs) if rival[0] in above]
    cheaper = [rival for rival in rivals if rival[3] and rival[3]["train_s"] < price["train_s"]]
    if cheaper:
        name, _, at_most, other = min(cheaper, key=lambda rival: rival[3]["train_s"])
        sentences.append(price_sentence(name, other))
        if price["devices"] == other["devices"]:
            saved = f"{percent(1 - other['train_s'] / price['train_s'])} of the training time"
        else:
            saved = "time, though on another device"
        lead = f"the interval leaves room for {best} to be up to {points(max(at_most, 0.0))} points better"
        if at_most < AT_STAKE:
            sentences.append(f"{name} saves {saved}, and cannot be told apart from {best}: {lead}. Price may decide.")
        else:
            sentences.append(f"{name} saves {saved}, but {lead}: these numbers do not decide whether that is worth it.")
    elif rivals and all(other for *_, other in rivals):
        sentences.append(f"No condition above chance that cannot be told apart from {best} takes less training.")
    elif not rivals_of(best, pairs) and any(best in (row["condition_a"], row["condition_b"]) for row in pairs):
        sentences.append(f"Each condition that {best} was compared with decides worse, at whatever price.")
    return sentences
