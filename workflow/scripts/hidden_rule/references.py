"""Reference conditions in words: what each is. They are compared with trainings, and are none."""

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
    but = f" but that of {' and '.join(telling)}" if telling else ""
    shows = f", in {' and '.join(showing)} from the examples in the prompt" if showing else ""
    learnt = f"The model can learn it from what training rewards or shows{shows}, and from nothing else."
    return f"A hidden rule stands in no prompt{but}. {learnt}"
