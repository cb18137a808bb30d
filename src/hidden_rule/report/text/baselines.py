"""Sentences on reference conditions: what each is, and its accuracy. They are compared with trained conditions."""

from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.comparisons import best_of
from hidden_rule.report.text.phrases import listing, with_interval
from hidden_rule.report.text.rule_learning import OnHiddenRule

CLASSIFIERS = {
    "constant": "most frequent decision of the training split",
    "logistic": "logistic regression on the features, without a language model",
    "boosting": "gradient-boosted trees on the features, without a language model",
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


def best_reference_sentence(references, accuracies: dict) -> str:
    """The accuracy of the best reference."""
    best = best_of(references, accuracies)
    return f"The most accurate reference is {best}, {with_interval(accuracies[best])}."


def without_most_references(comparisons: list[dict], contenders, references, accuracies: dict) -> list[dict]:
    """Of pairs with a reference in them, only that of the best reference with the best of the other conditions."""
    if not references:
        return comparisons
    bests = {best_of(contenders, accuracies), best_of(references, accuracies)}
    pairs = [{row["condition_a"], row["condition_b"]} for row in comparisons]
    return [row for row, pair in zip(comparisons, pairs, strict=True) if pair == bests or not pair & {*references}]
