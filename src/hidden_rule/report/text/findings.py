"""The report's answer: sentences made from numbers, in the order of a reader's questions.

Each verdict and its thresholds stand in the module of its topic, and rest on a 95% interval, never on a value alone.
Two conditions differ if both the interval of their difference and its p-value say so. p-values are Holm-adjusted for
the planned comparisons; intervals are not. Of a pair that was not planned, no difference is claimed.
"""

from hidden_rule.experiment.display import model_words
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import guess_words
from hidden_rule.report.text.baselines import (
    classifiers_of,
    match_sentences,
    matching_references,
    reference_sentence,
)
from hidden_rule.report.text.caveats import Weaknesses, change_sentences, method_sentences, scope_sentence
from hidden_rule.report.text.comparisons import best_of, differs, rivals_of, significance_sentences, untested
from hidden_rule.report.text.evidence import Evidence, gather, is_balanced
from hidden_rule.report.text.expected_cost import cost_evidence, cost_headline
from hidden_rule.report.text.expected_cost import cost_sentences as decision_cost_sentences
from hidden_rule.report.text.label_findings import label_sentences
from hidden_rule.report.text.phrases import listing, percent, with_interval
from hidden_rule.report.text.rule_learning import (
    free_sentence,
    hidden_sentences,
    policy_sentences,
    policy_verdict,
)
from hidden_rule.report.text.shortcuts import shortcut_sentences
from hidden_rule.report.text.suites import left_out_sentences, suite_findings, suite_sentences
from hidden_rule.report.text.training_cost import busy_sentences, cost_sentences, run_costs
from hidden_rule.report.text.training_runs import (
    collapse_sentences,
    feasibility_sentences,
    first_samples_sentences,
    still_rising,
    stopped_sentences,
    unanswered_sentences,
    validation_sentences,
    without_mixed_rewards,
)

LISTED = 4  # conditions, and hidden rules, that the headline lists by name; it counts more


def listed(others) -> str:
    """Conditions other than the best one, in the headline; the sections list all of them."""
    return listing(others) if len(others) <= LISTED else f"{len(others)} others"


def headline(
    order, accuracies: dict, comparisons: list[dict], hidden: dict[str | None, dict], chance: float, aside: str = ""
) -> str:
    """The answer in one sentence or two, about the conditions in `order`.

    accuracies: row of each condition; comparisons: pooled rows of accuracy; hidden: by hidden rule (None: the only one)
    the verdict on each condition; aside: names what `order` leaves out, in brackets.
    """
    none = f"No condition{aside}"
    best = best_of(order, accuracies)
    if policy_verdict(accuracies[best], chance) in ("chance", "below"):
        return f"{none} is significantly better than {guess_words(chance)} ({percent(chance)})."
    first = ranking(order, accuracies, comparisons, aside)
    tested = {rule: verdicts for rule, verdicts in hidden.items() if set(verdicts.values()) != {"unknown"}}
    if not tested:
        return first
    if said := rules_learned(order, best, tested):
        return f"{first} {said}"
    return f"{first} {none} demonstrably learned {'the' if len(hidden) == 1 else 'a'} hidden rule."


def ranking(order, accuracies: dict, comparisons: list[dict], aside: str) -> str:
    """The condition with the highest accuracy, and how the others compare, as for `headline`; one sentence."""
    best = best_of(order, accuracies)
    rivals = {name for name, *_ in rivals_of(best, comparisons)}
    alone = [row for row in comparisons if differs(row, "p_value")]
    hidden_by_number = {name for name, *_ in rivals_of(best, alone)}
    close = [name for name in order if name in rivals - hidden_by_number]
    unsure = [name for name in order if name in hidden_by_number]
    parts = [f"{best} has the highest accuracy{aside}, {with_interval(accuracies[best])}"]
    if close:
        parts.append(f"{listed(close)} {'is' if len(close) == 1 else 'are'} statistically tied")
    if unsure:
        lead = f"the lead over {listed(unsure)} is not significant"
        parts.append(f"{lead} after Holm correction for {len(comparisons)} comparisons")
    unknown = untested(best, order, comparisons)
    beaten = [name for name in order if name not in {best, *rivals, *unknown}]
    if beaten and not close and not unsure:
        parts[0] += f", significantly above {listed(beaten) if unknown else 'all others'}"
    if unknown:
        parts.append(f"no planned comparison with {listed(unknown)}")
    return "; ".join(parts) + "."


def rules_learned(order, best: str, hidden: dict[str | None, dict]) -> str:
    """Which of the conditions in `order` learned which hidden rule; empty where none did. hidden: as for `headline`."""
    learned = {rule: [name for name in order if of[name] == "learned"] for rule, of in hidden.items()}
    if not any(learned.values()):
        return ""

    def by(names: list[str]) -> str:
        if len(names) <= LISTED:
            return f"by {listing(names)}" if names else "by none"
        whether = "including" if best in names else "but not by"
        return f"by {len(names)} of {len(order)} conditions, {whether} {best}"

    if None in learned:
        return f"The hidden rule was learned {by(learned[None])}."
    if len(learned) > LISTED:
        counts = {name: sum(name in names for names in learned.values()) for name in order}
        leading = [name for name in order if counts[name] == max(counts.values())]
        return f"Most hidden rules ({max(counts.values())} of {len(learned)}) were learned {by(leading)}."
    return f"Hidden rules learned: {'; '.join(f'{rule} {by(names)}' for rule, names in learned.items())}."


def comparison_section(results: Results, found: Evidence) -> dict[str, list[str]]:
    """How the best condition compares with the others, and what each costs."""
    known = run_costs(results.costs, results.starts, results.config.get("price_per_hour"))
    is_alternative = found.best in found.above
    spent = cost_sentences(found.best, found.own_pairs, known, found.above) if is_alternative else []
    return {
        "Significance": significance_sentences(found.best, found.pairs, found.n_seeds, results.ruleset.case)
        or ["Only one condition: nothing to compare."],
        "Cost of mistakes": decision_cost_sentences(cost_evidence(results), results),
        "Training cost": [*spent, *busy_sentences(results.costs)] if spent else [],
    }


def learning_section(results: Results, found: Evidence) -> dict[str, list[str]]:
    """What each condition learned: the policy, the hidden rule, generalization suites."""
    free = results.free
    return {
        "Policy": policy_sentences(found.trainable, found.accuracies, found.chance),
        f"Hidden rule{'s' if len(found.hidden) > 1 else ''}": hidden_sentences(found.trainable, found.hidden),
        "References": [
            reference_sentence(name, what, found.accuracies[name], found.hidden)
            for name, what in found.references.items()
        ],
        "Label efficiency and label noise": label_sentences(results),
        "Generalization suites": suite_sentences(results.metrics, found.above, results.separate_rules),
        f"Free decoding{f' ({free.suite})' if free else ''}": free_sentences(results, found.order),
    }


def free_sentences(results: Results, order: list[str]) -> list[str]:
    """How each condition does under free decoding, of those that were evaluated so."""
    if results.free is None:
        return []
    accuracies, invalid = (
        {name: results.estimate(name, results.free, metric) for name in order}
        for metric in ("accuracy", "invalid_rate")
    )
    return [
        free_sentence(name, accuracy, share)
        for name, accuracy in accuracies.items()
        if accuracy and (share := invalid[name])
    ]


def training_section(results: Results) -> dict[str, list[str]]:
    """Why conditions learned what they did: the reward signal at the start, collapse, shortcuts, training curves."""
    feasibility, collapse = results.feasibility, results.collapse
    return {
        "Reward signal at the start": []
        if feasibility is None
        else feasibility_sentences(feasibility, group_sizes(results), results.ruleset.case)
        + first_samples_sentences(feasibility, round_sizes(results), results.ruleset.case),
        "Collapse": [] if collapse is None else collapse_sentences(collapse)
        + unanswered_sentences(results)
        + stopped_sentences(results.histories),
        "Shortcuts": shortcut_sentences(results),
        "Training curves": validation_sentences(results.histories),
    }  # fmt: skip


def group_sizes(results: Results) -> dict[str, int]:
    """The group size of each condition that is trained on groups of replies."""
    return {
        name: of["settings"]["group_size"] for name, of in results.settings.items() if "group_size" in of["settings"]
    }


def round_sizes(results: Results) -> dict[str, int]:
    """How many replies each condition that RFT trains samples to a prompt."""
    return {name: of["settings"]["samples"] for name, of in results.settings.items() if of["method"] == "rft"}


def change_section(results: Results, found: Evidence) -> list[str]:
    """What could change the result."""
    feasibility = results.feasibility
    silent = [] if feasibility is None else without_mixed_rewards(feasibility, group_sizes(results))
    weaknesses = Weaknesses(
        failed=suite_findings(results.metrics, found.best, results.separate_rules)["fails"],
        rising=still_rising(results.histories, results.config["data"]["validation"]),
        equal_rewards=[name for name in silent if found.policy_verdict(name) != "learned"],
        one_seed=found.n_seeds == 1 and bool(results.trained),
    )
    best = found.best if found.best in found.above else None
    return change_sentences(best, found.own_pairs, found.n, weaknesses, results.ruleset.case)


def method_section(results: Results, found: Evidence) -> list[str]:
    """The method, and what the numbers exclude."""
    config = results.config
    about = {"model": model_words(config["model"]), "ruleset": config["ruleset"], "train": config["data"]["train"]}
    about |= {"hidden_rules": len(results.ruleset.hidden_rules), "nouns": results.ruleset.case}
    if results.ruleset.is_observed:
        about |= {"ruleset": None, "source": results.ruleset.source, "guess": results.chance}
    rules = results.separate_rules
    suites = config.get("suites", {}).get("kinds", ())
    sentences = method_sentences(
        about,
        found.n,
        found.n_seeds,
        is_balanced=is_balanced(results.metrics, found.best, results.main),
        has_suites=any(any(suite_findings(results.metrics, name, rules).values()) for name in found.order),
        has_free=any(setting.decoding == "free" for setting in results.evaluated),
    )
    return sentences + left_out_sentences(results.ruleset, suites, set(results.metrics["suite"]))


def beside_references(answer: str, results: Results, found: Evidence) -> list[str]:
    """The headline with the references: first a classifier that is as good as the best condition, else the best last.

    Where nothing is above chance, a classifier that is not either says no more than that.
    """
    kinds = classifiers_of(results.config, found)
    matches = matching_references(kinds, found.best, found.accuracies, found.pairs)
    fields = {feature.kind for feature in results.ruleset.features}
    sentences = [*match_sentences(matches, found.best, kinds, found.accuracies, fields), answer]
    best = best_of(found.beside, found.accuracies)
    if best not in [match.reference for match in matches[:1]]:
        sentences.append(f"The most accurate reference is {best}, {with_interval(found.accuracies[best])}.")
    return sentences


def conclude(results: Results) -> dict:
    """The answer: `headline`, `lead` (sentences that go on from it), `scope`, and `sections`.

    Sections are a list of (title, list of (heading, sentences)).

    Sections whose tables an experiment does not have are left out.
    """
    found = gather(results)
    aside = " (references excluded)" if found.beside else ""
    hidden = {of.rule: of.verdicts for of in found.hidden}
    answer = headline(found.contenders, found.accuracies, found.pairs, hidden, found.chance, aside)
    sentences = beside_references(answer, results, found) if found.beside else [answer]
    if expected := cost_evidence(results):
        sentences = [*cost_headline(expected, found), *sentences]
    first, *lead = sentences
    sections = {
        "Ranking, significance and cost": comparison_section(results, found),
        "What each condition learned": learning_section(results, found),
        "Explanation": training_section(results),
        "What could change the result": {"": change_section(results, found)},
        "Method and threats to validity": {"": method_section(results, found)},
    }
    return {
        "headline": first,
        "lead": lead,
        "scope": scope_sentence(found.n, found.n_seeds, results.ruleset.case),
        "sections": [
            (title, [(heading, sentences) for heading, sentences in parts.items() if sentences])
            for title, parts in sections.items()
            if any(parts.values())
        ],
    }
