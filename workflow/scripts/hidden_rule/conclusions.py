"""Sentences made from numbers. No sentence is printed that its numbers do not support; the thresholds stand here.

A verdict looks at a 95% interval, never at a value alone. Two conditions differ if the interval of their difference and
its p-value both say so. p-values are adjusted for all pairs that are compared (Holm); intervals are not.
"""

import polars as pl

from .feasibility import verdict

LEARNT = 0.80  # learnt: the interval lies at or above this share of right answers
MISSED = 0.20  # the hidden rule is missed: the interval of its recall lies at or below this
ALPHA = 0.05  # two conditions differ: adjusted p below this, and an interval of the difference without zero
DEAD = 0.10  # a decision is given up: its share of sampled answers is below this fraction of an even share
WINDOW = 10  # recorded steps over which that share is averaged
MIN_STEPS = 2 * WINDOW  # recorded steps without which nothing is said about collapse


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def with_interval(row: dict) -> str:
    """`88.4% (86.3 to 90.3%)` of a row with value, ci_low and ci_high; a dash where it is undefined."""
    if row is None or row["value"] is None:
        return "–"
    return f"{percent(row['value'])} ({100 * row['ci_low']:.1f} to {percent(row['ci_high'])})"


def p_text(p_value: float) -> str:
    """A p-value in two digits; below 0.001 only that, since no model of the data is so exact."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.1 else f"p = {p_value:.2f}"


def points(share: float) -> str:
    """`1.6` or `−1.6` percentage points, with a true minus sign."""
    return f"{100 * share:.1f}".replace("-", "\N{MINUS SIGN}")


def listing(words) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def find(metrics: pl.DataFrame, condition: str, reading: tuple, metric: str) -> dict | None:
    """The pooled row of a metric that is not one of a label."""
    rows = metrics.filter(
        pl.col("seed").is_null(), pl.col("label").is_null(),
        condition=condition, suite=reading[0], decoding=reading[1], metric=metric,
    )  # fmt: skip
    return rows.row(0, named=True) if rows.height else None


def policy_verdict(accuracy: dict, chance: float) -> str:
    """`learnt`, `partly`, `chance` or `below` chance."""
    if accuracy["ci_high"] < chance:
        return "below"
    if accuracy["ci_low"] <= chance:
        return "chance"
    return "learnt" if accuracy["ci_low"] >= LEARNT else "partly"


def policy_sentence(condition: str, accuracy: dict, chance: float) -> str:
    """Did this condition learn the policy?"""
    value, guess = with_interval(accuracy), percent(chance)
    return {
        "learnt": f"{condition} learnt the policy: {value} of its decisions are right.",
        "partly": f"{condition} learnt a part of the policy: {value} of its decisions are right, chance is {guess}.",
        "chance": f"{condition} cannot be told apart from chance ({guess}): {value} of its decisions are right.",
        "below": f"{condition} does worse than chance ({guess}): {value} of its decisions are right.",
    }[policy_verdict(accuracy, chance)]


def hidden_verdict(recall: dict | None, precision: dict | None, base_rate: float) -> str:
    """`learnt`, `missed`, `no_sign`, `too_wide`, `partly`, or `unknown` where the hidden rule never fires.

    base_rate: share of applications on which a hidden rule fires, which is the precision of answering at random.
    """
    if recall is None or recall["value"] is None:
        return "unknown"
    if recall["ci_high"] <= MISSED:
        return "missed"
    if precision is None or precision["value"] is None or precision["ci_low"] <= base_rate:
        return "no_sign"
    if recall["ci_low"] >= LEARNT:
        return "learnt" if precision["ci_low"] >= LEARNT else "too_wide"
    return "partly"


def hidden_sentence(condition: str, recall: dict | None, precision: dict | None, base_rate: float) -> str:
    """Did this condition learn the hidden rule?"""
    found, right = with_interval(recall), with_interval(precision)
    if right == "–":
        but = "none of its answers needs this rule to be explained"
    else:
        chance = f"which chance ({percent(base_rate)}) can explain"
        but = f"of the answers that only this rule explains {right} are right, {chance}"
    return {
        "learnt": f"{condition} learnt the hidden rule: it finds {found} of its cases, and {right} of the answers that "
        "only this rule explains are right.",
        "missed": f"{condition} did not learn the hidden rule: it finds {found} of its cases.",
        "no_sign": f"{condition} shows no sign of the hidden rule: it gets {found} of its cases right, but {but}.",
        "too_wide": f"{condition} finds {found} of the hidden rule's cases but cannot be said to keep to them: {right} "
        "of the answers that only this rule explains are right.",
        "partly": f"{condition} learnt a part of the hidden rule: it finds {found} of its cases, and {right} of the "
        "answers that only this rule explains are right.",
        "unknown": f"Nothing can be said about {condition} and the hidden rule: it fires on no application here.",
    }[hidden_verdict(recall, precision, base_rate)]


def differs(comparison: dict) -> bool:
    """Is this difference significant? Both the test and the interval have to say so."""
    return comparison["p_adjusted"] < ALPHA and not comparison["ci_low"] <= 0 <= comparison["ci_high"]


def difference_sentence(comparison: dict) -> str:
    """Which of two conditions is better, by how much, and how sure that is."""
    a, b, difference = comparison["condition_a"], comparison["condition_b"], comparison["difference"]
    low, high = comparison["ci_low"], comparison["ci_high"]
    if difference < 0:
        a, b, difference, low, high = b, a, -difference, -high, -low
    evidence = f"{points(low)} to {points(high)}; {p_text(comparison['p_adjusted'])}"
    if differs(comparison):
        return f"{a} beats {b} by {points(difference)} points ({evidence})."
    missed = missed_sentence(comparison["mde"])
    return f"{a} and {b} cannot be told apart: {points(difference)} points ({evidence}).{missed}"


def missed_sentence(mde: float | None) -> str:
    """What a comparison could have shown, by its minimal detectable effect; nothing where that is not known."""
    if mde is None:
        return ""
    if mde >= 1:
        return " There are too few applications or seeds to show any difference with such a chance as 80%."
    return f" A difference of {points(mde)} points would have been seen with a chance of some 80%."


def family_sentences(comparisons: list[dict], n_seeds: int) -> list[str]:
    """How the p-values of these comparisons were made; nothing where there are none."""
    if not comparisons:
        return []
    tests = {
        "mcnemar_exact": "exact McNemar tests of one training seed",
        "t_applications_seeds": f"t-tests over applications and {n_seeds} training seeds",
        "t_families": "t-tests over families of applications, of one training seed",
        "t_families_seeds": f"t-tests over families of applications and {n_seeds} training seeds",
    }
    used = listing(dict.fromkeys(tests[row["test"]] for row in comparisons))
    held = f", adjusted for {len(comparisons)} comparisons (Holm)" if len(comparisons) > 1 else ""
    return [f"The p-values are of {used}{held}."]


def feasibility_sentence(condition: str, start: str, group_size: int, of: dict[str, dict]) -> str:
    """What the first groups of a training by reward hold; `of`: a row of FEASIBILITY for each subset."""
    judged, seldom = verdict(of)
    signal = f"{percent(of['all']['signal_share'])} of its first groups of {group_size} carry a signal"
    name = f"{condition} (from {start})"
    if judged == "no_signal":
        return f"{name}: {signal}, next to nothing to learn from; {percent(of['all']['p_right'])} of replies are right."
    if judged == "go":
        return f"{name}: {signal}, and most groups of each decision hold a right reply."
    shares = [f"{percent(of[s]['right_share'])} of {'the hidden rule' if s == 'hidden' else s}'s" for s in seldom]
    return f"{name}: {signal}, but only {listing(shares)} hold a right reply that reward could strengthen."


def feasibility_sentences(table: pl.DataFrame, group_sizes: dict[str, int]) -> list[str]:
    """A sentence for each condition that GRPO trains, shares averaged over its seeds; group_sizes: of each."""
    sentences = []
    for name, group_size in group_sizes.items():
        rows = table.filter(condition=name, group_size=group_size)
        if rows.is_empty():
            continue
        mean = rows.group_by("subset", maintain_order=True).agg(pl.mean("p_right", "signal_share", "right_share"))
        of = {row["subset"]: row for row in mean.to_dicts()}
        sentences.append(feasibility_sentence(name, rows["start"][0], group_size, of))
    return sentences


def collapse(history: pl.DataFrame, labels) -> dict | None:
    """Did the sampled answers of a training give up decisions for good? None if it recorded no shares.

    Returns `kept` (labels, largest share first), `lost`, `step` (the first from which on no lost label is seen again in
    any WINDOW of recorded steps), `zero_signal` (mean share of groups without signal over the last WINDOW, or None) and
    `too_short`. Shares count among valid answers.
    """
    shares = history.filter(metric="predicted_share").pivot("label", index="step", values="value").sort("step")
    if shares.is_empty():
        return None
    shares = shares.with_columns(pl.lit(0.0).alias(label) for label in labels if label not in shares.columns)
    values = shares.select(pl.col(list(labels)).fill_null(0.0)).to_numpy()
    limit = DEAD / len(labels)
    n_windows = len(values) - WINDOW + 1
    signal = history.filter(metric="zero_signal_share").sort("step")["value"].tail(WINDOW)
    verdict = {"kept": [], "lost": [], "step": None, "zero_signal": signal.mean(), "too_short": len(values) < MIN_STEPS}
    if verdict["too_short"]:
        return verdict
    windows = [values[i : i + WINDOW].sum(0) for i in range(n_windows)]
    windows = [total / total.sum() if total.sum() > 0 else total for total in windows]  # among valid answers
    ranked = sorted(zip(windows[-1], labels, strict=True), key=lambda pair: -pair[0])
    verdict["kept"] = [label for share, label in ranked if share >= limit]
    verdict["lost"] = [label for label in labels if label not in verdict["kept"]]
    lost = [i for i, label in enumerate(labels) if label in verdict["lost"]]
    seen = [i for i, window in enumerate(windows) if lost and window[lost].max() >= limit]
    verdict["step"] = int(shares["step"][seen[-1] + 1 if seen else 0])
    return verdict


def collapse_sentence(condition: str, seed: int, verdict: dict, n_labels: int) -> str:
    """What became of the decisions of a training by reward that lost some, or was too short to tell."""
    name = f"{condition} (seed {seed})"
    if verdict["too_short"]:
        return f"{name} was trained for fewer than {MIN_STEPS} recorded steps, too few to speak of collapse."
    if not verdict["kept"]:
        return f"{name} made no valid decision at its end."
    signal = verdict["zero_signal"]
    end = "" if signal is None else f" In its last steps {signal:.0%} of the groups carried no signal."
    return (
        f"{name} collapsed into {len(verdict['kept'])} of {n_labels} decisions, {listing(verdict['kept'])}: from step "
        f"{verdict['step']} on, each other one made up less than {percent(DEAD / n_labels)} of its answers.{end}"
    )


def stopped_sentences(trained, histories) -> list[str]:
    """A sentence for each training that ended early because no group carried a signal any more."""
    stopped = [
        (condition, seed, row)
        for (condition, seed, _), history in zip(trained, histories, strict=True)
        for row in history.filter(metric="stopped_without_signal").to_dicts()
    ]
    return [
        f"{condition} (seed {seed}) was stopped after step {row['step']}: no group had carried a signal for "
        f"{row['value']:.0f} steps."
        for condition, seed, row in stopped
    ]


def collapse_sentences(verdicts, n_labels: int) -> list[str]:
    """A sentence for each collapsed seed, and one for all sound seeds of a condition.

    verdicts: (condition, seed, verdict of `collapse` or None) of each training.
    """
    judged = [(condition, seed, verdict) for condition, seed, verdict in verdicts if verdict]
    if not judged:
        return ["No condition was trained by reward, so nothing can have collapsed that way."]
    sentences = []
    for name in dict.fromkeys(condition for condition, *_ in judged):
        of_condition = [(seed, verdict) for condition, seed, verdict in judged if condition == name]
        sound = [seed for seed, verdict in of_condition if not verdict["lost"] and not verdict["too_short"]]
        sentences += [collapse_sentence(name, s, verdict, n_labels) for s, verdict in of_condition if s not in sound]
        if sound:
            seeds = f"seed{'s' if len(sound) > 1 else ''} {listing(map(str, sound))}"
            sentences.append(f"{name} ({seeds}) did not collapse: at its end it made each of the {n_labels} decisions.")
    return sentences


def headline(order, accuracies: dict, comparisons: list[dict], hidden: dict, chance: float) -> str:
    """The answer in one sentence or two.

    accuracies: row of each condition; comparisons: pooled rows of accuracy; hidden: `hidden_verdict` of each condition.
    """
    best = max(order, key=lambda name: accuracies[name]["value"])
    if policy_verdict(accuracies[best], chance) in ("chance", "below"):
        return "No condition can be said to do better than chance: nothing was learnt that these applications show."
    rivals = [
        {row["condition_a"], row["condition_b"]} - {best}
        for row in comparisons
        if best in (row["condition_a"], row["condition_b"]) and not differs(row)
    ]
    rivals = [name for name in order if {name} in rivals]
    value = with_interval(accuracies[best])
    if rivals:
        first = f"{best} decides rightly most often, {value}, but {listing(rivals)} cannot be told apart from it."
    else:
        first = f"{best} decides best: {value} of its decisions are right."
    if set(hidden.values()) == {"unknown"}:
        return first
    learnt = [name for name in order if hidden[name] == "learnt"]
    if learnt:
        return f"{first} The hidden rule was learnt by {listing(learnt)}."
    return f"{first} No condition can be said to have learnt the hidden rule."


def free_sentence(condition: str, accuracy: dict, invalid: dict) -> str:
    """How a condition does when nothing keeps its replies in form."""
    return (
        f"{condition}: {with_interval(accuracy)} right; {with_interval(invalid)} of its replies are no valid decision."
    )


def scope_sentence(n_applications: int, seeds) -> str:
    """What the intervals cover."""
    if len(seeds) == 1:
        return (
            f"Intervals are at 95%, over {n_applications:,} applications. Training ran with one seed: they do not say "
            "how much another seed would differ."
        )
    return f"Intervals are at 95%, over {n_applications:,} applications and {len(seeds)} training seeds."


def conclude(metrics, comparisons, histories, trained, labels, order, reading, free=None, feasible=()) -> dict:
    """The report's answer: `headline`, `scope`, and `parts`, a list of (heading, sentences).

    metrics, comparisons: tables; histories: frames; trained: [condition, seed, method] of each; order: conditions;
    reading: (suite, decoding) that the answer is about; free: one under free decoding, if there is another; feasible:
    `feasibility_sentences`.
    """
    chance = 1 / len(labels)
    accuracies = {name: find(metrics, name, reading, "accuracy") for name in order}
    recalls = {name: find(metrics, name, reading, "hidden_recall") for name in order}
    precisions = {name: find(metrics, name, reading, "hidden_precision") for name in order}
    base_rates = {name: recalls[name]["n"] / accuracies[name]["n"] for name in order}
    hidden = {name: hidden_verdict(recalls[name], precisions[name], base_rates[name]) for name in order}
    rows = comparisons.filter(pl.col("seed").is_null(), metric="accuracy", suite=reading[0], decoding=reading[1])
    pairs = sorted(rows.to_dicts(), key=lambda row: -abs(row["difference"]))
    before = {"Could reward teach it from where it started?": list(feasible)} if feasible else {}
    verdicts = [(c, s, collapse(history, labels)) for (c, s, _), history in zip(trained, histories, strict=True)]
    seeds = metrics["seed"].drop_nulls().unique()
    n = metrics.filter(pl.col("seed").is_not_null(), metric="accuracy", suite=reading[0], decoding=reading[1])[
        "n"
    ].max()
    parts = {
        "Who learnt the policy?": [policy_sentence(name, accuracies[name], chance) for name in order],
        "Who learnt the hidden rule?": [
            hidden_sentence(name, recalls[name], precisions[name], base_rates[name]) for name in order
        ],
        **before,
        "Did training by reward collapse?": collapse_sentences(verdicts, len(labels))
        + stopped_sentences(trained, histories),
        "Which differences are more than chance?": [
            *map(difference_sentence, pairs),
            *family_sentences(pairs, len(seeds)),
        ]
        or ["There is one condition alone, and nothing to compare."],
    }
    if free:
        parts[f"And when replies are not held to a form ({free[0]})?"] = [
            free_sentence(name, find(metrics, name, free, "accuracy"), find(metrics, name, free, "invalid_rate"))
            for name in order
        ]
    return {
        "headline": headline(order, accuracies, pairs, hidden, chance),
        "scope": scope_sentence(n, seeds),
        "parts": list(parts.items()),
    }
