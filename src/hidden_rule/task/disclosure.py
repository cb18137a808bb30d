"""No prompt discloses a hidden rule; how much of one a reply discloses."""

import re

from hidden_rule.core.errors import UserError
from hidden_rule.task.predicates import SQL_TOKEN, compared_literals


def check_secrets(path, ruleset) -> None:
    """No text of the prompt may disclose a hidden rule: its name, predicate, plain words or the values it tests.

    Compared as words, without regard to case and punctuation (`soft cheese` discloses `Soft-Cheese`). A label may be
    named anywhere. A number in the plain words of a disclosed rule is that rule's own if its predicate has it too.
    """
    texts: list[tuple[str, str, set]] = [("prompt.system", ruleset.system, set()), ("prompt.user", ruleset.user, set())]
    texts += [(f"features.{feature.name}.text", feature.text, set()) for feature in ruleset.features]
    texts += [
        (f"rules[{i}].says", rule.says, _thresholds(rule.when))
        for i, rule in enumerate(ruleset.rules)
        if not rule.hidden and rule.says
    ]
    for rule in ruleset.hidden_rules:
        secrets = _secrets(rule, ruleset)
        for key, text, own_numbers in texts:
            text = re.sub(r"\{\w+\}", "\n", text)  # a placeholder discloses nothing
            for label in ruleset.labels:
                text = text.replace(label, "\n")
            words = f" {words_of(text)} "
            for kind, secret in secrets:
                if f" {words_of(secret)} " in words:
                    _refuse(path, key, rule, kind, secret)
            for number in sorted((_thresholds(rule.when) - own_numbers) & _numbers(text)):
                _refuse(path, key, rule, "its number", f"{number:g}")


def _refuse(path, key: str, rule, kind: str, secret: str) -> None:
    fault = f"gives the hidden rule {rule.name} away ({kind} {secret!r})"
    raise UserError(path, key, fault, "reword it, or set hidden: false for that rule")


def _secrets(rule, ruleset) -> list[tuple[str, str]]:
    """What must not be read in a prompt, with its kind."""
    secrets = [("its name", rule.name), ("its predicate", rule.when)]
    secrets += [("its plain words", rule.says)] if rule.says else []
    literals = [t[1:-1].replace("''", "'") for t in SQL_TOKEN.findall(rule.when) if t[0] == "'"]
    secrets += [("its value", literal) for literal in literals if words_of(literal)]
    # A word that only the tested choices have spells them as well: "cheese" for "Soft-Cheese".
    for feature in ruleset.features:
        secrets += [("its value", word) for word in sorted(_tellingwords_of(feature, set(literals)))]
    return secrets


def _tellingwords_of(feature, values: set) -> set[str]:
    """Words of four letters or more that, of a feature's choices, only those among `values` have."""
    tested = {choice for choice in feature.choices if choice in values}
    others = {w for choice in feature.choices if choice not in tested for w in words_of(choice).split()}
    others |= set(words_of(feature.name).split())
    return {w for choice in tested for w in words_of(choice).split() if len(w) >= 4} - others


def words_of(text: str) -> str:
    """Lower-case words and whole numbers, one blank between."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _numbers(text: str) -> set[float]:
    """Numbers in `text`, as in `80%`, `$1,000` or `.5` (signs left out: `-5` and `5` disclose the same threshold)."""
    found = re.findall(r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)", text)
    return {float(number.replace(",", "")) for number in found}


def _thresholds(when: str) -> set[float]:
    """Numbers in a predicate, those inside quoted texts left out."""
    return _numbers(re.sub(r"'(?:[^']|'')*'", " ", when))


# --- what a reply discloses -------------------------------------------------------------------------------------------


def names(text: str, value) -> bool:
    """Whether a text names a value: its words one after the other, or its number (signs left out)."""
    if isinstance(value, str):
        return f" {words_of(value)} " in f" {words_of(text)} "
    return abs(float(value)) in _numbers(text)


def named_share(text: str, rule, ruleset) -> float | None:
    """Of the values that a rule's predicate compares with, the share that a text names; None if it has none.

    A choice is named by its words too that no choice outside the predicate has: "google" names Ex-Google.
    """
    literals = compared_literals(rule.when)
    values = [value for feature_values in literals.values() for value in dict.fromkeys(feature_values)]
    hits = 0
    for name, feature_values in literals.items():
        feature = next((feature for feature in ruleset.features if feature.name == name), None)
        telling = _tellingwords_of(feature, set(feature_values)) if feature else set()
        for value in dict.fromkeys(feature_values):
            own = set(words_of(value).split()) & telling if isinstance(value, str) else set()
            hits += names(text, value) or bool(own & set(words_of(text).split()))
    return hits / len(values) if values else None
