"""Why conditions learnt what they did, in sentences: what reward could teach, what was given up, how training went."""

import numpy as np
import polars as pl

from hidden_rule.report.text.phrases import MANY, listing, percent, signed
from hidden_rule.statistics.collapse import MIN_STEPS, RARE
from hidden_rule.statistics.feasibility import verdict


def feasibility_sentence(condition: str, start: str, group_size: int, of: dict[str, dict]) -> str:
    """What the first groups of a training by reward hold; `of`: a row of FEASIBILITY for each subset."""
    said = signal_sentence(condition, start, group_size, of)
    if of["all"]["p_invalid"] == 0:
        return said
    return f"{said} {percent(of['all']['p_invalid'])} of the replies are no valid decision."


def signal_sentence(condition: str, start: str, group_size: int, of: dict[str, dict]) -> str:
    """The share of the first groups that carry a signal, and of those that hold a right reply."""
    judged, seldom = verdict(of)
    signal = f"{percent(of['all']['signal_share'])} of the first groups of {group_size} carry a signal"
    name = f"{condition} (from {start})"
    if judged == "no_signal":
        return f"{name}: {signal}, next to nothing to learn from; {percent(of['all']['p_right'])} of replies are right."
    if judged == "go":
        return f"{name}: {signal}, and most groups of each decision hold a right reply."
    shares = [f"{percent(of[s]['right_share'])} of {'the hidden rule' if s == 'hidden' else s}'s" for s in seldom]
    return f"{name}: {signal}, but only {listing(shares)} hold a right reply that reward could strengthen."


def first_groups(table: pl.DataFrame, group_sizes: dict[str, int]) -> dict[str, tuple[str, int, dict]]:
    """Start, group size and, by subset, shares averaged over seeds, of each condition in FEASIBILITY."""
    found = {}
    for name, group_size in group_sizes.items():
        rows = table.filter(condition=name, group_size=group_size)
        if rows.is_empty():
            continue
        mean = rows.group_by("subset", maintain_order=True).agg(
            pl.mean("p_right", "p_invalid", "signal_share", "right_share")
        )
        found[name] = rows["start"][0], group_size, {row["subset"]: row for row in mean.to_dicts()}
    return found


def feasibility_sentences(table: pl.DataFrame, group_sizes: dict[str, int]) -> list[str]:
    """A sentence for each condition that GRPO trains, or for several whose first groups are the same.

    group_sizes: of each condition.
    """
    same = {}
    for name, shares in first_groups(table, group_sizes).items():
        same.setdefault(repr(shares), (shares, []))[1].append(name)
    return [feasibility_sentence(listing(names), *shares) for shares, names in same.values()]


def without_signal(table: pl.DataFrame, group_sizes: dict[str, int]) -> list[str]:
    """The conditions whose first groups carry no signal."""
    return [name for name, (_, _, of) in first_groups(table, group_sizes).items() if verdict(of)[0] == "no_signal"]


def training_rows(table: pl.DataFrame | None) -> dict[tuple[str, int], list[dict]]:
    """The rows of each training, by (condition, seed), of table COLLAPSE."""
    found = {}
    for row in [] if table is None else table.to_dicts():
        found.setdefault((row["condition"], row["seed"]), []).append(row)
    return found


def collapse_sentence(rows: list[dict]) -> str:
    """What became of the decisions of one training by reward; `rows` of COLLAPSE, a row a label."""
    of, name = rows[0], f"{rows[0]['condition']} (seed {rows[0]['seed']})"
    decisions = [row["label"] for row in rows if row["fate"] != "unneeded"]

    def named(fate):
        return [row["label"] for row in rows if row["fate"] == fate]

    if "too_short" in of["reasons"]:
        return f"{name} was trained for fewer than {MIN_STEPS} recorded steps, too few to speak of collapse."
    if "no_valid" in of["reasons"]:
        if of["verdict"] == "collapsed":
            return f"{name} collapsed: from step {of['collapsed_since']} on hardly any of its replies is valid."
        return f"Hardly any reply of {name} was a valid decision, from its first step on: there was nothing to give up."
    said = []
    if of["verdict"] == "collapsed":
        kept = [row for row in rows if row["fate"] not in ("lost", "absent", "unneeded")]
        kept = [row["label"] for row in sorted(kept, key=lambda row: -(row["share"] or 0.0))]
        lost = "; ".join(
            f"{row['label']} made up at most {percent(row['high'])} of its answers and is right for "
            f"{percent(row['true_share'])}"
            for row in rows
            if row["fate"] == "lost"
        )
        into = f"{len(kept)} of {len(decisions)} decisions" + (f", {listing(kept)}" if kept else "")
        said.append(f"{name} collapsed into {into}, from step {of['collapsed_since']} on: at its end {lost}.")
        if of["zero_signal_share"] is not None:
            said.append(f"In its last steps {of['zero_signal_share']:.0%} of the groups carried no signal.")
    if "recent" in of["reasons"]:
        since = min(row["since"] for row in rows if row["fate"] == "lost")
        said.append(
            f"{name} has hardly made {listing(named('lost'))} since step {since}, too lately to call it given up: its "
            "answers still vary."
        )
    if named("absent"):
        said.append(f"{name} hardly ever made {listing(named('absent'))}, at its start or later.")
    if named("rare"):
        often = listing(f"{row['label']} ({percent(row['share'])})" for row in rows if row["fate"] == "rare")
        said.append(f"{name} ends with {often} of its answers, less than {RARE:.0%} of how often that is right.")
    if named("unsure"):
        said.append(f"There are too few answers to say whether {name} still makes {listing(named('unsure'))}.")
    for row in rows:
        if row["gap_from"] is not None:
            said.append(
                f"{name} hardly made {row['label']} between steps {row['gap_from']} and {row['gap_to']}, and came back "
                "to it."
            )
    if "no_signal" in of["reasons"]:
        said.append(f"The groups of {name} carried next to no signal from the start: reward had nothing to teach with.")
    return " ".join(said)


def collapse_sentences(table: pl.DataFrame | None) -> list[str]:
    """A sentence or more for each training by reward that gave cause, and one for all others of a condition.

    table: COLLAPSE.
    """
    trainings = training_rows(table)
    if not trainings:
        return ["No condition was trained by reward, so nothing can have collapsed that way."]
    sentences, all_sound = [], []
    conditions = list(dict.fromkeys(condition for condition, _ in trainings))
    for name in conditions:
        of_condition = {seed: rows for (condition, seed), rows in trainings.items() if condition == name}
        sound = [seed for seed, rows in of_condition.items() if rows[0]["verdict"] == "pass"]
        sentences += [collapse_sentence(rows) for seed, rows in of_condition.items() if seed not in sound]
        if len(conditions) > MANY and len(sound) == len(of_condition):
            all_sound.append(name)
        elif sound:
            seeds = f"seed{'s' if len(sound) > 1 else ''} {listing(map(str, sound))}"
            n = sum(row["fate"] != "unneeded" for row in of_condition[sound[0]])
            sentences.append(f"{name} ({seeds}) did not collapse: at its end it made each of the {n} decisions.")
    if all_sound:
        sentences.append(f"No training of {listing(all_sound)} collapsed: each decision was made at its end.")
    return sentences


STOPS = {  # metric of the history -> why a training ended before its last pass did, with the metric's value
    "stopped_without_signal": "no group had carried a signal for {:.0f} steps",
    "stopped_by_time_limit": "it had the {:.3g} minutes that it may take",
}


def stopped_sentences(trained, histories) -> list[str]:
    """A sentence for each training that ended before its last pass did."""
    return [
        f"{condition} (seed {seed}) was stopped after step {row['step']}: {reason.format(row['value'])}."
        for (condition, seed, _), history in zip(trained, histories, strict=True)
        for metric, reason in STOPS.items()
        for row in history.filter(metric=metric).to_dicts()
    ]


def validations(trained, histories) -> dict[str, list[list[float]]]:
    """Validation accuracies of each seed of each condition, in the order of their steps; those with at least two."""
    found = {}
    for (condition, *_), history in zip(trained, histories, strict=True):
        values = history.filter(metric="validation_accuracy").sort("step")["value"].to_list()
        if len(values) > 1:
            found.setdefault(condition, []).append(values)
    return found


def validation_sentences(trained, histories) -> list[str]:
    """How each condition's accuracy on the validation split went, means over its seeds; of many, in one sentence."""
    sentences, went = [], validations(trained, histories)
    means = {name: np.mean([[v[0], v[-1], v[-1] - v[-2]] for v in of_seeds], axis=0) for name, of_seeds in went.items()}
    if len(went) > MANY:
        of_each = (
            f"{name} {100 * first:.1f} to {percent(last)} ({signed(gain)})"
            for name, (first, last, gain) in means.items()
        )
        return [
            "Right on the validation split, from the start to the end (in brackets, what the last pass changed, in "
            f"points): {listing(of_each)}."
        ]
    for name, of_seeds in went.items():
        first, last, gain = means[name]
        change = "did not change it" if abs(gain) < 0.0005 else f"changed it by {signed(gain)} points"
        sentences.append(
            f"{name} went from {percent(first)} right on the validation split to {percent(last)}; its last pass "
            f"{change}."
            if max(map(len, of_seeds)) > 2
            else f"{name} went from {percent(first)} right on the validation split to {percent(last)}."
        )
    return sentences


def still_rising(trained, histories, n: int) -> list[str]:
    """Conditions whose accuracy on `n` validation applications rose in their last pass by more than chance explains.

    The rise, mean over seeds, is compared with 1.96 standard errors of the difference of two independent shares of `n`
    applications: an upper bound, since both are of the same ones, and seeds are not counted. A training that was
    stopped early rises no more.
    """
    names = []
    for name, of_seeds in validations(trained, histories).items():
        before, after = np.mean([v[-2:] for v in of_seeds], axis=0)
        error = ((before * (1 - before) + after * (1 - after)) / n) ** 0.5
        stopped = any(
            not history.filter(metric="stopped_without_signal").is_empty()
            for (condition, *_), history in zip(trained, histories, strict=True)
            if condition == name
        )
        if after - before > 1.96 * error and not stopped:
            names.append(name)
    return names
