"""Terms of the page, each in a sentence: shown where a column is headed by one, and listed at the end."""

GLOSSARY = {
    "accuracy": "Share of cases answered with the correct decision; an invalid reply counts as wrong.",
    "95% CI": "95% confidence interval: the range of values that the data are compatible with.",
    "balanced accuracy": "Mean of the recalls of all decisions: frequent decisions count no more than rare ones.",
    "macro-F1": "Mean over decisions of F1, the harmonic mean of precision and recall.",
    "F1": "Harmonic mean of precision and recall.",
    "recall": "Of the cases for which a decision is right, the share answered so.",
    "precision": "Of the answers with a decision, the share that is right.",
    "recall in conflict": "Recall on the hidden rule where another rule implies a different decision.",
    "hidden rule": "A rule of the policy that no prompt states: it can be learned from labels or rewards alone.",
    "invalid replies": "Share of replies that are no decision at all.",
    "expected cost": "Mean cost of mistakes per 1,000 cases, by the configured costs and frequencies of decisions.",
    "worst–best seed": "The lowest and the highest value among training seeds.",
    "p": "p-value: how likely such a difference would be if there were none.",
    "p (Holm)": "p-value corrected for the number of planned comparisons; below 0.05 is significant here.",
    "minimum detectable": "The difference in points that this sample finds significant with 80% power.",
    "statistically tied": "Not significantly different: the test or the interval of the difference allows zero.",
    "planned comparison": "A pair of conditions that the config names before the run; only these are tested.",
    "chance": "The accuracy of answering at random.",
    "collapse": "In RL training: a decision that was sampled before is hardly sampled any more.",
    "entropy": "How evenly a policy spreads over decisions, in nats; 0: always the same.",
    "groups of equal rewards": "Share of GRPO's groups in which all replies have the same reward: no gradient.",
    "calibration": "Whether answers given with probability p are right in a share p of the cases.",
    "ECE": "Expected calibration error: the mean distance between probability and accuracy.",
    "flip rate": "Share of pairs in which changing the trigger of the hidden rule changes the answer, as it should.",
    "false flip rate": "Share of pairs in which an irrelevant change changes the answer; lower is better.",
    "fidelity": "Share of a condition's answers that the extracted rules predict.",
    "lift": "How many times as frequent a decision is where a rule applies as among all cases.",
    "structured decoding": "Only valid replies can be given: the most probable valid decision is the answer.",
    "free decoding": "The model writes whatever it writes; the reply is parsed.",
    "reference": "A condition for comparison alone: a classifier without a language model, or a prompt that says more.",
    "on an idle machine": "Estimate of what a new run takes with the machine to itself.",
}
HEADINGS = {  # columns whose heading is another word for a term, or holds one
    "hidden rule: recall": "recall", "hidden rule: precision": "precision",
    "hidden rule in conflict: recall": "recall in conflict", "hidden rules: recall": "recall",
    "hidden rules: precision": "precision", "hidden rules in conflict: recall": "recall in conflict",
    "Policy learned?": "accuracy", "Hidden rule learned?": "hidden rule", "Collapsed?": "collapse",
    "Accuracy": "accuracy", "Generalizes?": "flip rate", "Training time per seed": "on an idle machine",
}  # fmt: skip
QUESTIONS = {  # headings of the scorecard
    "Policy learned?": "Learned: the 95% CI of accuracy lies at or above 80%. Partly: above chance.",
    "Hidden rule learned?": "Learned: the 95% CIs of recall and precision on it lie at or above 80%.",
    "Generalizes?": "Suites passed: the 95% CI lies at or above 80% (of a false flip rate: at or below 20%).",
    "Stable over seeds?": "Whether every training seed has the same verdict on the policy.",
    "Collapsed?": "Whether RL training stopped sampling a decision that it sampled before.",
}


def glossary_of(*, has_hidden: bool) -> dict[str, str]:
    """The terms that a page lists; without hidden rules those that are about them are left out."""
    return {name: words for name, words in GLOSSARY.items() if has_hidden or "hidden" not in f"{name} {words}"}


def explained(heading: str) -> str:
    """What a heading means; empty where it explains itself."""
    if heading in QUESTIONS:
        return QUESTIONS[heading]
    return GLOSSARY.get(HEADINGS.get(heading, heading), "")
