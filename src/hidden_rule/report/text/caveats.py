"""What would change the answer, how its numbers were made, and what they do not cover, in sentences."""

import math

from hidden_rule.report.text.comparisons import rivals_of
from hidden_rule.report.text.phrases import listing, points
from hidden_rule.statistics.intervals import seeds_needed

FEASIBLE = 100  # times as many applications, or training seeds: nobody would take more to tell two conditions apart


def rounded_up(n: float) -> int:
    """A number in two digits, rounded up."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit


def telling_apart(best: str, pairs: list[dict], n_applications: int) -> list[str]:
    """What it would take to tell the best condition from each that it cannot be told apart from.

    pairs: pooled comparisons with `of_seeds`, the differences under each seed, and `n_compared`, the number of pairs
    that p-values are adjusted for. With one seed, the number of applications: the minimal detectable effect falls with
    its square root, so (effect / difference)² times as many would have shown a difference of the size that was seen
    with a chance of some 80%. With several, the number of seeds, as `seeds_needed` says.
    """
    found = {frozenset((row["condition_a"], row["condition_b"])): row for row in pairs}
    n_seeds = max((len(row["of_seeds"]) for row in pairs), default=1)
    sentences, hopeless = [], []
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
        have, unit = (n_applications, "applications") if n_seeds == 1 else (n_seeds, "training seeds")
        if needed is None:
            hopeless.append((name, max(lead, 0.0)))
        elif needed <= have:
            sentences.append(f"As many {unit} once more may well tell {best} from {name}.")
        else:
            needed = rounded_up(needed) if n_seeds == 1 else needed
            sentences.append(
                f"If {best} leads {name} by the {points(lead)} points seen here, some {needed:,} {unit} would be "
                f"likely to show it; these are {have:,}."
            )
    if hopeless:
        names, leads = zip(*hopeless, strict=True)
        more = f"{FEASIBLE} times as many applications" if n_seeds == 1 else f"{FEASIBLE} training seeds"
        sentences.append(
            f"{best} leads {listing(names)} by so little, at most {points(max(leads))} points here, that {more} would "
            "not be likely to show it."
        )
    return sentences


def change_sentences(best, pairs, n_applications, n_seeds, failed, rising, unheard, is_trained) -> list[str]:
    """What would change the answer.

    best: the best condition, None if none is better than chance; pairs: as `telling_apart` takes them; failed: what the
    best condition fails in suites, in words; rising: conditions whose validation accuracy was still rising; unheard:
    those that did not learn the policy and whose first groups carried no signal; is_trained: whether any condition was
    trained.
    """
    sentences = telling_apart(best, pairs, n_applications) if best else []
    if n_seeds == 1 and is_trained:
        sentences.append(
            "More training seeds: there is one, and how much another would move each condition is not known."
        )
    if failed and best:
        sentences.append(f"Applications like those of the suites that {best} fails ({'; '.join(failed)}).")
    if rising:
        were = "was" if len(rising) == 1 else "were"
        sentences.append(f"More passes: {listing(rising)} {were} still getting better in the last one.")
    if unheard:
        sentences.append(
            f"Another start for {listing(unheard)}: in nearly all first groups every reply earned the same, which "
            "tells none from another."
        )
    if not sentences and best and pairs:
        sentences.append(
            f"Nothing that was measured would: each condition that {best} was compared with decides worse."
        )
    return sentences


def method_sentences(about: dict, n_applications: int, n_seeds: int, *, is_balanced, has_suites, has_free) -> list[str]:
    """How the numbers were made, and what they do not cover.

    about: `model` (its id), `ruleset` (its file), `train` (applications that are trained on), each None if not known;
    is_balanced: is each decision right equally often? has_suites, has_free: were suites answered, and was anything
    answered under free decoding?
    """
    even = ", on which each decision is right equally often" if is_balanced else ""
    sentences = [
        f"Every condition answers the same {n_applications:,} applications, which no training has seen{even}; a reply "
        "that is no valid decision counts as wrong."
    ]
    if about.get("model"):
        sentences.append(f"There is one base model, {about['model']}: another may learn other things.")
    if about.get("ruleset"):
        sentences.append(
            f"The applications are drawn from {about['ruleset']}: nothing occurs in them that it does not foresee"
            + (", and a decision that is rare in practice is not rare here." if is_balanced else ".")
        )
    if about.get("train"):
        seeds = "The one training seed" if n_seeds == 1 else f"All {n_seeds} training seeds"
        sentences.append(
            f"{seeds} learnt from one draw of {about['train']:,} applications; another draw may teach more."
        )
    sentences.append("Settings were given, not searched for: each method may do better with others.")
    if not has_suites:
        sentences.append(
            "No suites were answered: whether the meaning of the hidden rule was learnt, or its wording, is not known."
        )
    if not has_free:
        sentences.append(
            "Replies were held to valid decisions; how often a model would write something else is not known."
        )
    return sentences


def scope_sentence(n_applications: int, n_seeds: int) -> str:
    """What the intervals cover."""
    if n_seeds == 1:
        return (
            f"Intervals are at 95%, over {n_applications:,} applications. Training ran with one seed: they do not say "
            "how much another seed would differ."
        )
    return f"Intervals are at 95%, over {n_applications:,} applications and {n_seeds} training seeds."
