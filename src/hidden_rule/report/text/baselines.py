"""Sentences on reference conditions: what each is, and its accuracy. They are compared with trained conditions."""

from dataclasses import dataclass

from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.comparisons import differs, pair_of, rivals_of, turned
from hidden_rule.report.text.phrases import listing, with_interval
from hidden_rule.report.text.rule_learning import OnHiddenRule

CLASSIFIERS = {
    "constant": "most frequent decision of the training split",
    "logistic": "a linear classifier on the features, no language model",
    "boosting": "boosted trees on the features, no language model",
}


def describe_references(config: dict) -> dict[str, str]:
    """What each condition with a `reference` or a `prompt` is; conditions with neither are left out."""
    words = {}
    for name, condition in config["conditions"].items():
        if kind := condition.get("reference"):
            words[name] = CLASSIFIERS[kind]
        elif prompt := condition.get("prompt"):
            added = "all rules" if prompt == "oracle" else f"{prompt['examples']} example decisions"
            words[name] = f"{condition.get('start_from', 'untrained model')} with {added} in the prompt"
    return words


def hidden_rule_note(config: dict, n_rules: int = 1) -> str:
    """Which prompts state the hidden rules, and what a model can learn them from; empty without hidden rules."""
    if not n_rules:
        return ""
    the_rule, is_, it = ("rules", "are", "them") if n_rules > 1 else ("rule", "is", "it")
    prompts = {name: condition["prompt"] for name, condition in config["conditions"].items() if "prompt" in condition}
    with_rules = [name for name, prompt in prompts.items() if prompt == "oracle"]
    with_examples = [name for name in prompts if name not in with_rules]
    where = f"only the prompt of {listing(with_rules)} states {it}" if with_rules else f"no prompt states {it}"
    examples = f", or, for {listing(with_examples)}, from the examples in the prompt" if with_examples else ""
    return (
        f"The hidden {the_rule} {is_} unwritten: {where}. A model can learn {it} only from training labels or "
        f"rewards{examples}."
    )


def reference_sentence(name: str, what: str, accuracy: Estimate, rules: list[OnHiddenRule]) -> str:
    """What a reference is, its accuracy, and its recall and precision on each of the hidden rules that fire."""
    hidden = ""
    for of in rules:
        recall, precision = of.recalls[name], of.precisions[name]
        if recall is None:
            continue
        hidden += f"; hidden rule{f' {of.rule}' if of.rule else ''}: recall {with_interval(recall)}"
        if precision is not None:
            hidden += f", precision {with_interval(precision)}"
        else:
            hidden += ", no answer that only this rule explains"
    return f"{name} ({what}): accuracy {with_interval(accuracy)}{hidden}."


@dataclass(frozen=True)
class Match:
    """A reference that is as good as the best condition, and how that is known."""

    reference: str
    peer: str  # the condition that it is compared with: the best one, or one that is statistically tied with it
    relation: str  # better | tied: by a planned comparison; higher: by its accuracy alone


def classifiers_of(config: dict, found) -> dict[str, str]:
    """The `reference` of each classifier beside the contenders; where none of these is above chance, of those that are.

    found: the Evidence.
    """
    conditions = config["conditions"]
    kinds = {name: conditions[name]["reference"] for name in found.beside if "reference" in conditions[name]}
    if found.best in found.above:
        return kinds
    return {name: kind for name, kind in kinds.items() if found.policy_verdict(name) in ("learned", "partly")}


def matching_references(classifiers, best: str, accuracies: dict, pairs: list[dict]) -> list[Match]:
    """The classifiers that are as good as the best condition or better, the most accurate first.

    That is: not significantly worse by a planned comparison with it, or with a condition that is itself statistically
    tied with it; without such a comparison, one with a higher accuracy. pairs: pooled comparisons of accuracy.
    """
    peers = [best, *(name for name, *_ in rivals_of(best, pairs) if name not in classifiers)]
    found = {frozenset(pair_of(row)): row for row in pairs}
    matches = []
    for name in classifiers:
        peer = next((peer for peer in peers if frozenset((name, peer)) in found), None)
        if peer is None:
            if accuracies[name].value >= accuracies[best].value:
                matches.append(Match(name, best, "higher"))
            continue
        row = turned(found[frozenset((name, peer))], name)
        if not differs(row) or row["difference"] > 0:
            matches.append(Match(name, peer, "better" if differs(row) else "tied"))
    return sorted(matches, key=lambda match: -accuracies[match.reference].value)


def related(relation: str, peer: str) -> str:
    """What the relation of a `Match` says of its reference."""
    return {
        "better": f"is significantly more accurate than {peer}",
        "tied": f"is statistically tied with {peer}",
        "higher": f"has at least the accuracy of {peer} (no planned comparison)",
    }[relation]


def match_sentences(matches: list[Match], best: str, kinds: dict[str, str], accuracies: dict, fields) -> list[str]:
    """That a classifier does as well as the best condition, and what a language model would be needed for instead.

    matches: `matching_references`, the first of which is described; nothing without any. kinds: the `reference` of each
    classifier; fields: the kinds of the ruleset's features (number, choice, text).
    """
    if not matches:
        return []
    first, *others = matches
    what = f"{first.reference} ({CLASSIFIERS[kinds[first.reference]]})"
    ours, theirs = with_interval(accuracies[first.reference]), with_interval(accuracies[first.peer])
    peer = first.peer if first.peer == best else f"{first.peer}, which is statistically tied with {best}"
    alike = [of.reference for of in others if (of.relation, of.peer) == (first.relation, first.peer)]
    clauses = [f"{what} {related(first.relation, peer)}: {ours}, against {theirs}"]
    clauses += [f"likewise {listing(alike)}"] if alike else []
    clauses += [f"{of.reference} {related(of.relation, of.peer)}" for of in others if of.reference not in alike]
    sentence = f"{'; '.join(clauses)}."
    if all(kinds[of.reference] == "constant" for of in matches):
        return [sentence, f"The accuracy of {first.peer} is no evidence of learning."]
    needed = [*([] if "text" in fields else ["free-text fields"]), "facts in prose"]
    return [
        sentence,
        f"No language model is needed for this accuracy; one would be for {', '.join(needed)} or replies in words.",
    ]
