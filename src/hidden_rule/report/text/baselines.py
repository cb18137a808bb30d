"""Reference conditions in words: what each is, and what it reaches. They are compared with trainings, and are none."""

from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.comparisons import best_of
from hidden_rule.report.text.phrases import listing, with_interval

CLASSIFIERS = {
    "constant": "always the most frequent decision of the training split",
    "logistic": "a logistic regression on the features, without a language model",
    "boosting": "gradient-boosted trees on the features, without a language model",
}


def describe_references(config: dict) -> dict[str, str]:
    """What each condition with a `reference` or a `prompt` is; conditions with neither are left out."""
    words = {}
    for name, condition in config["conditions"].items():
        if kind := condition.get("reference"):
            words[name] = CLASSIFIERS[kind]
        elif prompt := condition.get("prompt"):
            told = "every rule" if prompt == "oracle" else f"{prompt['examples']} decided applications"
            words[name] = f"{condition.get('start_from', 'the untrained model')} with {told} in its prompt"
    return words


def hidden_rule_note(config: dict) -> str:
    """Where the hidden rule stands, and where a model can learn it from."""
    prompts = {name: condition["prompt"] for name, condition in config["conditions"].items() if "prompt" in condition}
    telling = [name for name, prompt in prompts.items() if prompt == "oracle"]
    showing = [name for name in prompts if name not in telling]
    but = f" but that of {listing(telling)}" if telling else ""
    shows = f", in {listing(showing)} from the examples in the prompt" if showing else ""
    learnt = f"The model can learn it from what training rewards or shows{shows}, and from nothing else."
    return f"A hidden rule stands in no prompt{but}. {learnt}"


def reference_sentence(
    name: str, what: str, accuracy: Estimate, recall: Estimate | None, precision: Estimate | None
) -> str:
    """What a reference is, and what it reaches."""
    hidden = ""
    if recall is not None and recall.value is not None:
        hidden = f"; on the hidden rule recall is {with_interval(recall)}"
        if precision is not None and precision.value is not None:
            hidden += f" and precision {with_interval(precision)}"
        else:
            hidden += ", and none of its answers needs this rule to be explained"
    return f"{name} ({what}): {with_interval(accuracy)} of its decisions are right{hidden}."


def best_reference_sentence(references, accuracies: dict) -> str:
    """What the best reference reaches."""
    best = best_of(references, accuracies)
    return f"Of the references {best} reaches most: {with_interval(accuracies[best])}."


def without_most_references(comparisons: list[dict], contenders, references, accuracies: dict) -> list[dict]:
    """Of pairs with a reference in them, only that of the best reference with the best of the other conditions."""
    if not references:
        return comparisons
    bests = {best_of(contenders, accuracies), best_of(references, accuracies)}
    pairs = [{row["condition_a"], row["condition_b"]} for row in comparisons]
    return [row for row, pair in zip(comparisons, pairs, strict=True) if pair == bests or not pair & {*references}]
