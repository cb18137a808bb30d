"""Sentences on what could change the result, on the method, and on threats to validity."""

import math
from dataclasses import dataclass

from hidden_rule.experiment.runs import guess_words
from hidden_rule.report.text.comparisons import pair_of, rivals_of
from hidden_rule.report.text.phrases import listing, percent, points
from hidden_rule.statistics.intervals import seeds_needed
from hidden_rule.task.nouns import APPLICATION, CaseNouns

FEASIBLE = 100  # times the test set, or training seeds: the largest study that is worth proposing


def rounded_up(n: float) -> int:
    """A number in two digits, rounded up."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit


def detection_sentences(best: str, pairs: list[dict], n_applications: int, nouns: CaseNouns = APPLICATION) -> list[str]:
    """The sample that would detect the difference between the best condition and each that is statistically tied.

    pairs: pooled comparisons with `of_seeds`, the differences under each seed, and `n_compared`, the number of planned
    comparisons. With one seed, the number of applications: the minimum detectable difference falls
    with its square root, so (minimum / observed difference)² times as many would detect the observed one with 80%
    power. With several, the number of seeds, as `seeds_needed` says.
    """
    found = {frozenset((row["condition_a"], row["condition_b"])): row for row in pairs}
    n_seeds = max((len(row["of_seeds"]) for row in pairs), default=1)
    sentences, undetectable = [], []
    for name, lead, _ in rivals_of(best, pairs):
        row = found[frozenset((best, name))]
        if row["mde"] is None:
            continue
        if lead <= 0:
            needed = None
        elif n_seeds == 1:
            times = (row["mde"] / lead) ** 2
            needed = times * n_applications if times <= FEASIBLE else None
        else:
            half_width = (row["ci_high"] - row["ci_low"]) / 2
            needed = seeds_needed(row["of_seeds"], half_width, lead, row["n_compared"], FEASIBLE)
        have, unit = (n_applications, nouns.many) if n_seeds == 1 else (n_seeds, "training seeds")
        if needed is None:
            undetectable.append((name, max(lead, 0.0)))
        elif needed <= have:
            sentences.append(f"Twice as many {unit} would probably separate {best} from {name}.")
        else:
            needed = rounded_up(needed) if n_seeds == 1 else needed
            sentences.append(
                f"Detecting the observed difference of {points(lead)} points between {best} and {name} would take "
                f"about {needed:,} {unit} (80% power); this experiment has {have:,}."
            )
    if undetectable:
        names, leads = zip(*undetectable, strict=True)
        more = f"{FEASIBLE}× the test set" if n_seeds == 1 else f"{FEASIBLE} training seeds"
        largest = f"{points(max(leads))} points"
        if len(names) == 1:
            differences = f"The difference between {best} and {names[0]} ({largest}) is"
        else:
            differences = f"The differences between {best} and each of {listing(names)} (at most {largest}) are"
        sentences.append(f"{differences} undetectable even with {more}.")
    return sentences


@dataclass(frozen=True)
class Weaknesses:
    """What more or other data and training might change."""

    failed: list[str]  # suites that the best condition fails, in words
    rising: list[str]  # conditions whose validation accuracy was still rising
    equal_rewards: list[str]  # those that did not learn the policy and started with almost no mixed rewards
    one_seed: bool  # of training


def change_sentences(
    best: str | None,
    pairs: list[dict],
    n_applications: int,
    weaknesses: Weaknesses,
    nouns: CaseNouns = APPLICATION,
) -> list[str]:
    """What could change the result.

    best: the best condition, None if none is above chance; pairs: as `detection_sentences` takes them.
    """
    failed, rising, equal = weaknesses.failed, weaknesses.rising, weaknesses.equal_rewards
    sentences = detection_sentences(best, pairs, n_applications, nouns) if best else []
    if weaknesses.one_seed:
        sentences.append("More training seeds: with a single seed, the variation between seeds is unknown.")
    if failed and best:
        sentences.append(f"Inputs like those of the suites that {best} fails: {listing(failed)}.")
    if rising:
        were = "was" if len(rising) == 1 else "were"
        sentences.append(f"Longer training: {listing(rising)} {were} still improving in the last epoch.")
    if equal:
        sentences.append(
            f"A different starting point for {listing(equal)}: in nearly all first groups every reply has the same "
            "reward, which gives no gradient."
        )
    if not sentences and best and any(best in pair_of(row) for row in pairs):
        sentences.append(f"Nothing measured here: all conditions compared with {best} are significantly less accurate.")
    return sentences


def method_sentences(about: dict, n_applications: int, n_seeds: int, *, is_balanced, has_suites, has_free) -> list[str]:
    """The method, and what its numbers exclude.

    about: `model` (its id), `ruleset` (its file), `train` (cases that are trained on), each None if not known,
    `hidden_rules`, how many there are, and `nouns`, what a case is called; of past decisions also `source` (their file)
    and `guess` (the accuracy of the most frequent label);
    is_balanced: is each decision correct equally often? has_suites, has_free: were suites, and was free decoding,
    evaluated?
    """
    many = about.get("nouns", APPLICATION).many
    meaning = {0: "the policy or a shortcut", 1: "the meaning of the hidden rule or its wording"}
    several = "the meaning of the hidden rules or their wording"
    even = " and balanced across decisions" if is_balanced else ""
    sentences = [
        f"All conditions are evaluated on the same {n_applications:,} {many}, unseen in training{even}; an "
        "invalid reply counts as wrong."
    ]
    if about.get("model"):
        sentences.append(f"One base model, {about['model']}: others may give different results.")
    if about.get("ruleset"):
        sentences.append(
            f"Synthetic {many}: they contain only what {about['ruleset']} specifies"
            + (", and decisions that are rare in practice are not rare here." if is_balanced else ".")
        )
    if about.get("source"):
        sentences += [
            f"Past decisions ({about['source']}): accuracy is agreement with what was decided, which may not be what "
            "was right.",
            f"Labels are as frequent as in the file, and {guess_words(about['guess'])} is right for "
            f"{percent(about['guess'])}: compare accuracy with that, and read balanced accuracy, macro-F1 and the "
            "recall of each label beside it.",
        ]
    if about.get("train"):
        shared = "" if n_seeds == 1 else f", shared by all {n_seeds} training seeds"
        sentences.append(
            f"One training set of {about['train']:,} {many}{shared}; another draw may give different results."
        )
    sentences.append(
        "Hyperparameters are those of the configuration; how they were chosen lies outside this experiment, and other "
        "values may change the ranking."
    )
    if not has_suites:
        what = meaning.get(about.get("hidden_rules", 1), several)
        sentences.append(f"No generalization suites: whether a model learned {what} is unknown.")
    if not has_free:
        sentences.append("Structured decoding only: the rate of invalid replies under free decoding is unknown.")
    return sentences


def scope_sentence(n_applications: int, n_seeds: int, nouns: CaseNouns = APPLICATION) -> str:
    """What the intervals cover."""
    if n_seeds == 1:
        return (
            f"95% confidence intervals (CI) over {n_applications:,} {nouns.many}. One training seed: variation between "
            "seeds is not included."
        )
    return f"95% confidence intervals (CI) over {n_applications:,} {nouns.many} and {n_seeds} training seeds."
