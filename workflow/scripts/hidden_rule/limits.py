"""What would change the answer, how its numbers were made, and what they do not cover, in sentences."""

import math

from .compared import rivals_of
from .wording import listing, points

FEASIBLE = 100  # times as many applications: more than that nobody would draw to tell two conditions apart


def rounded_up(n: float) -> int:
    """A number in two digits, rounded up."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit


def telling_apart(best: str, pairs: list[dict], n_applications: int, n_seeds: int) -> list[str]:
    """What it would take to tell the best condition from each that it cannot be told apart from.

    The minimal detectable effect falls with the square root of the number of applications, and with several seeds at
    least as fast as with that of both numbers together, so (effect / difference)² times as many would have shown a
    difference of the size that was seen with a chance of some 80%.
    """
    effects = {frozenset((row["condition_a"], row["condition_b"])): row["mde"] for row in pairs}
    sentences, hopeless = [], []
    for name, lead, _ in rivals_of(best, pairs):
        effect = effects[frozenset((best, name))]
        if effect is None:
            continue
        times = (effect / lead) ** 2 if lead > 0 else math.inf
        if times > FEASIBLE:
            hopeless.append((name, max(lead, 0.0)))
        elif times <= 1:
            sentences.append(f"As many applications once more may well tell {best} from {name}.")
        else:
            if n_seeds == 1:
                needed = f"{rounded_up(times * n_applications):,} applications would be likely to show it; these are"
            else:
                needed = f"{rounded_up(10 * times) / 10:g} times as many applications and seeds would; these are"
            these = f"{n_applications:,}" + ("" if n_seeds == 1 else f" and {n_seeds}")
            sentences.append(f"If {best} leads {name} by the {points(lead)} points seen here, some {needed} {these}.")
    if hopeless:
        names, leads = zip(*hopeless, strict=True)
        more = "applications" if n_seeds == 1 else "applications and seeds"
        sentences.append(
            f"{best} leads {listing(names)} by so little, at most {points(max(leads))} points here, that "
            f"{FEASIBLE} times as many {more} would not be likely to show it."
        )
    return sentences


def change_sentences(best, pairs, n_applications, n_seeds, failed, rising, unheard, is_trained) -> list[str]:
    """What would change the answer.

    best: the best condition, None if none is better than chance; failed: what it fails in suites, in words; rising:
    conditions whose validation accuracy was still rising; unheard: those that did not learn the policy and whose first
    groups carried no signal; is_trained: whether any condition was trained.
    """
    sentences = telling_apart(best, pairs, n_applications, n_seeds) if best else []
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
