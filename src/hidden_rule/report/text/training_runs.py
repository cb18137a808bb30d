"""Sentences on training: the reward signal at its start, collapse, early stops, validation accuracy."""

import numpy as np
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.report.text.phrases import MANY, listing, percent, signed
from hidden_rule.statistics.collapse import MIN_STEPS, RARE
from hidden_rule.statistics.feasibility import HIDDEN, OVERALL, SELDOM_RIGHT, Subset, verdict
from hidden_rule.task.nouns import APPLICATION, CaseNouns


def feasibility_sentence(
    condition: str, start: str, group_size: int, of: dict[Subset, dict], nouns: CaseNouns = APPLICATION
) -> str:
    """The reward signal of the first groups of an RL training; `of`: a row of FEASIBILITY for each subset."""
    sentence = mixed_rewards_sentence(condition, start, group_size, of, nouns)
    if of[OVERALL]["p_invalid"] == 0:
        return sentence
    return f"{sentence} {percent(of[OVERALL]['p_invalid'])} of the replies are invalid."


def mixed_rewards_sentence(
    condition: str, start: str, group_size: int, of: dict[Subset, dict], nouns: CaseNouns = APPLICATION
) -> str:
    """The share of the first groups with mixed rewards, and of those that contain a correct reply."""
    judged, seldom = verdict(of)
    mixed = f"{percent(of[OVERALL]['signal_share'])} of the first groups of {group_size} have mixed rewards"
    name = f"{condition} (start: {start})"
    if judged == "no_signal":
        right = percent(of[OVERALL]["p_right"])
        return f"{name}: only {mixed} (almost no learning signal); {right} of replies are correct."
    if judged == "go":
        return f"{name}: {mixed}, and most groups of each decision contain a correct reply."
    single = [subset for subset in seldom if subset.kind == "rule"]
    named = [subset for subset in seldom if subset != HIDDEN or not single]  # of several rules each is named
    shares = [f"{percent(of[subset]['right_share'])} for {subset_words(subset, nouns)}" for subset in named]
    return f"{name}: {mixed}; groups with a correct reply to reinforce are rare ({', '.join(shares)})."


def subset_words(subset: Subset, nouns: CaseNouns) -> str:
    """A subset of cases in a sentence."""
    kinds = {"overall": f"all {nouns.many}", "hidden": "the hidden rule", "rule": f"the hidden rule {subset.name}"}
    return kinds.get(subset.kind, str(subset.name))


def first_groups(table: pl.DataFrame, group_sizes: dict[str, int]) -> dict[str, tuple[str, int, dict]]:
    """Start, group size and, by subset, shares averaged over seeds, of each condition in FEASIBILITY."""
    found = {}
    for name, group_size in group_sizes.items():
        rows = table.filter(condition=name, group_size=group_size)
        if rows.is_empty():
            continue
        mean = rows.group_by("kind", "name", maintain_order=True).agg(
            pl.mean("p_right", "p_invalid", "signal_share", "right_share")
        )
        found[name] = rows["start"][0], group_size, {Subset(row["kind"], row["name"]): row for row in mean.to_dicts()}
    return found


def feasibility_sentences(
    table: pl.DataFrame, group_sizes: dict[str, int], nouns: CaseNouns = APPLICATION
) -> list[str]:
    """A sentence for each condition that is trained on groups, or for several whose first groups are the same.

    group_sizes: of each condition.
    """
    same: dict[str, tuple[tuple[str, int, dict], list[str]]] = {}
    for name, shares in first_groups(table, group_sizes).items():
        same.setdefault(repr(shares), (shares, []))[1].append(name)
    return [feasibility_sentence(listing(names), *shares, nouns) for shares, names in same.values()]


def first_samples_sentence(
    condition: str, start: str, samples: int, of: dict[Subset, dict], nouns: CaseNouns = APPLICATION
) -> str:
    """What the first round of an RFT training has to keep; `of`: a row of FEASIBILITY for each subset."""
    name, share = f"{condition} (start: {start})", percent(of[OVERALL]["right_share"])
    where = f"among the first {samples} samples" if samples > 1 else "as the first sample"
    sentence = f"{name}: {share} of {nouns.many} have a correct reply {where}"
    seldom = [subset for subset, row in of.items() if subset != OVERALL and row["right_share"] < SELDOM_RIGHT]
    single = [subset for subset in seldom if subset.kind == "rule"]
    named = [subset for subset in seldom if subset != HIDDEN or not single]
    if not named:
        return f"{sentence}."
    shares = listing(f"{percent(of[subset]['right_share'])} for {subset_words(subset, nouns)}" for subset in named)
    return f"{sentence}; only {shares}."


def first_samples_sentences(table: pl.DataFrame, samples: dict[str, int], nouns: CaseNouns = APPLICATION) -> list[str]:
    """A sentence for each condition that RFT trains; samples: a prompt, of each condition."""
    return [first_samples_sentence(name, *of, nouns) for name, of in first_groups(table, samples).items()]


def without_mixed_rewards(table: pl.DataFrame, group_sizes: dict[str, int]) -> list[str]:
    """The conditions of whose first groups almost none has mixed rewards."""
    return [name for name, (_, _, of) in first_groups(table, group_sizes).items() if verdict(of)[0] == "no_signal"]


def training_rows(table: pl.DataFrame | None) -> dict[tuple[str, int], list[dict]]:
    """The rows of each training, by (condition, seed), of table COLLAPSE."""
    found: dict[tuple[str, int], list[dict]] = {}
    for row in [] if table is None else table.to_dicts():
        found.setdefault((row["condition"], row["seed"]), []).append(row)
    return found


def with_fate(rows: list[dict], fate: str) -> list[str]:
    """The decisions of one training that have this fate; `rows` of COLLAPSE."""
    return [row["label"] for row in rows if row["fate"] == fate]


def lost_sentences(name: str, rows: list[dict]) -> list[str]:
    """What a training collapsed to, and what it lost; `rows` of COLLAPSE, with the verdict `collapsed`."""
    of, decisions = rows[0], [row for row in rows if row["fate"] != "unneeded"]
    kept = [row for row in decisions if row["fate"] not in ("lost", "absent")]
    kept = [row["label"] for row in sorted(kept, key=lambda row: -(row["share"] or 0.0))]
    lost = "; ".join(
        f"{row['label']} at most {percent(row['high'])} of the answers (true share {percent(row['true_share'])})"
        for row in rows
        if row["fate"] == "lost"
    )
    into = f"{len(kept)} of {len(decisions)} decisions" + (f" ({listing(kept)})" if kept else "")
    sentences = [f"{name} collapsed to {into} from step {of['collapsed_since']} on. At the end: {lost}."]
    if of["zero_signal_share"] is not None:
        sentences.append(f"In its last steps, {of['zero_signal_share']:.0%} of the groups had equal rewards.")
    return sentences


def collapse_sentence(rows: list[dict]) -> str:
    """What became of the decisions of one RL training; `rows` of COLLAPSE, a row a label."""
    of, name = rows[0], f"{rows[0]['condition']} (seed {rows[0]['seed']})"
    if "too_short" in of["reasons"]:
        return f"{name}: fewer than {MIN_STEPS} recorded steps, too few for a verdict on collapse."
    if "no_valid" in of["reasons"]:
        if of["verdict"] == "collapsed":
            return f"{name} collapsed: almost no valid replies from step {of['collapsed_since']} on."
        return f"{name}: almost no valid replies from the first step on, so that collapse cannot be assessed."
    sentences = lost_sentences(name, rows) if of["verdict"] == "collapsed" else []
    if "recent" in of["reasons"]:
        since = min(row["since"] for row in rows if row["fate"] == "lost")
        sentences.append(
            f"{name} has almost stopped sampling {listing(with_fate(rows, 'lost'))} since step {since}: too recent to "
            "call a collapse, as its answers still vary."
        )
    if absent := with_fate(rows, "absent"):
        sentences.append(f"{name} almost never sampled {listing(absent)}, from start to end.")
    if with_fate(rows, "rare"):
        shares = listing(f"{row['label']} ({percent(row['share'])})" for row in rows if row["fate"] == "rare")
        sentences.append(f"{name} under-samples {shares} at the end: less than {RARE:.0%} of the true share.")
    if unsure := with_fate(rows, "unsure"):
        sentences.append(f"Too few answers to tell whether {name} still samples {listing(unsure)}.")
    sentences += [
        f"{name} almost stopped sampling {row['label']} between steps {row['gap_from']} and {row['gap_to']}, then "
        "recovered."
        for row in rows
        if row["gap_from"] is not None
    ]
    if "no_signal" in of["reasons"]:
        sentences.append(f"{name}: almost no groups with mixed rewards at the start, hence almost no learning signal.")
    return " ".join(sentences)


def seeds_text(seeds: list[int]) -> str:
    """`seed 0`, or `seeds 0 and 2`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {listing(map(str, seeds))}"


def collapse_sentences(table: pl.DataFrame | None) -> list[str]:
    """A sentence or more for each RL training with a warning or a collapse, and one for all others of a condition.

    table: COLLAPSE.
    """
    trainings = training_rows(table)
    if not trainings:
        return ["No RL training in this experiment."]
    sentences, all_sound = [], []
    conditions = list(dict.fromkeys(condition for condition, _ in trainings))
    for name in conditions:
        of_condition = {seed: rows for (condition, seed), rows in trainings.items() if condition == name}
        sound = [seed for seed, rows in of_condition.items() if rows[0]["verdict"] == "pass"]
        sentences += [collapse_sentence(rows) for seed, rows in of_condition.items() if seed not in sound]
        if len(conditions) > MANY and len(sound) == len(of_condition):
            all_sound.append(name)
        elif sound:
            n = sum(row["fate"] != "unneeded" for row in of_condition[sound[0]])
            sentences.append(
                f"{name} ({seeds_text(sound)}) did not collapse: all {n} decisions are still sampled at the end of "
                "training."
            )
    if all_sound:
        sentences.append(f"No training of {listing(all_sound)} collapsed: every decision is still sampled at its end.")
    return sentences


def unanswered_sentences(results: Results) -> list[str]:
    """RL-trained conditions that never give some decision in the main setting, whatever they sampled in training.

    A decision counts that is correct for some application there; its precision then has no answers to rest on.
    """
    sentences = []
    structured = results.main.decoding == "structured"
    why = ", which takes the most probable decision, whereas training samples" if structured else ""
    metrics = results.metrics.filter(pl.col("seed").is_not_null(), **results.main.columns)
    occurring = metrics.filter(pl.col("n") > 0, metric="recall")["label"].unique()
    never = metrics.filter(pl.col("label").is_in(occurring.to_list()), metric="precision", n=0)
    for name in dict.fromkeys(condition for condition, _ in training_rows(results.collapse)):
        seeds: dict[tuple, list[int]] = {}
        for seed, labels in never.filter(condition=name).sort("seed").group_by("seed", maintain_order=True):
            missing = tuple(label for label in results.labels if label in labels["label"].to_list())
            seeds.setdefault(missing, []).append(seed[0])
        sentences += [
            f"{name} ({seeds_text(of)}) never answers {listing(missing)} in evaluation ({results.main.words}){why}."
            for missing, of in seeds.items()
        ]
    return sentences


STOPS = {  # metric of the history -> why a training ended before its last epoch did, with the metric's value
    "stopped_without_signal": "no group had mixed rewards for {:.0f} steps",
    "stopped_without_samples": "none of {:.0f} replies sampled to each training prompt was of use",
    "stopped_by_time_limit": "time limit of {:.3g} minutes reached",
}


def stopped_sentences(histories: dict[Run, pl.DataFrame]) -> list[str]:
    """A sentence for each training that ended before its last pass did; histories: table HISTORY of each run."""
    return [
        f"{run} was stopped after step {row['step']}: {reason.format(row['value'])}."
        for run, history in histories.items()
        for metric, reason in STOPS.items()
        for row in history.filter(metric=metric).to_dicts()
    ]


def validations(histories: dict[Run, pl.DataFrame]) -> dict[str, list[list[float]]]:
    """Validation accuracies of each seed of each condition, in the order of their steps; those with at least two."""
    found: dict[str, list[list[float]]] = {}
    for run, history in histories.items():
        values = history.filter(metric="validation_accuracy").sort("step")["value"].to_list()
        if len(values) > 1:
            found.setdefault(run.condition, []).append(values)
    return found


def validation_sentences(histories: dict[Run, pl.DataFrame]) -> list[str]:
    """Each condition's validation accuracy from start to end, means over its seeds; of many, in one sentence."""
    sentences, went = [], validations(histories)
    means = {name: np.mean([[v[0], v[-1], v[-1] - v[-2]] for v in of_seeds], axis=0) for name, of_seeds in went.items()}
    if len(went) > MANY:
        of_each = (
            f"{name} {percent(first)} → {percent(last)} ({signed(gain)})" for name, (first, last, gain) in means.items()
        )
        return [f"Validation accuracy from start to end (change in the last epoch, in points): {', '.join(of_each)}."]
    for name, of_seeds in went.items():
        first, last, gain = means[name]
        change = "unchanged" if abs(gain) < 0.0005 else f"{signed(gain)} points"
        in_last = f"; {change} in the last epoch" if max(map(len, of_seeds)) > 2 else ""
        sentences.append(f"{name}: validation accuracy {percent(first)} → {percent(last)}{in_last}.")
    return sentences


def still_rising(histories: dict[Run, pl.DataFrame], n: int) -> list[str]:
    """Conditions whose accuracy on `n` validation applications rose in the last epoch by more than chance explains.

    The rise, mean over seeds, is compared with 1.96 standard errors of the difference of two independent shares of `n`
    applications: an upper bound, since both are of the same ones, and seeds are not counted. A training that was
    stopped early rises no more.
    """
    names = []
    for name, of_seeds in validations(histories).items():
        before, after = np.mean([v[-2:] for v in of_seeds], axis=0)
        error = ((before * (1 - before) + after * (1 - after)) / n) ** 0.5
        stopped = any(
            not history.filter(pl.col("metric").str.starts_with("stopped_without_")).is_empty()
            for run, history in histories.items()
            if run.condition == name
        )
        if after - before > 1.96 * error and not stopped:
            names.append(name)
    return names
