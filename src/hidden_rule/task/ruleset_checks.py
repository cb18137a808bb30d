"""What a ruleset must satisfy before anything is built on it; each fault is a UserError of one line."""

import itertools
import re

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, dotted, first_fault

RESERVED_COLUMNS = (
    *("application_id", "label", "fired_rule", "label_without_hidden"),
    *("suite", "family", "role", "shown_feature", "shown_text", "field_order"),  # of suites
)
MAX_GRID = 1_000_000  # values of one number feature
SQL_TOKEN = re.compile(r"'(?:[^']|'')*'|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|\w+|<>|!=|<=|>=|[^\s\w]")


# --- the document -----------------------------------------------------------------------------------------------------


def check_document(path, document: dict, schema: dict) -> None:
    """Keys, types and ranges, and what a schema cannot say about features, names and templates."""
    fault = first_fault(document, schema)
    if fault:
        raise UserError(path, dotted(fault[0]), *fault[1:])
    for name, feature in document["features"].items():
        _check_feature(path, name, feature)
    names = [rule["name"] for rule in document["rules"]]
    for i, name in enumerate(names):
        if name == "default":
            raise UserError(path, f"rules[{i}].name", "`default` means that no rule fired", "give another name")
        if name in names[:i]:
            raise UserError(path, f"rules[{i}].name", f"{name!r} stands twice", "give each rule a name of its own")
    _check_labels(path, document)
    _check_templates(path, document)


def _check_feature(path, name: str, feature: dict) -> None:
    key = f"features.{name}"
    if name in RESERVED_COLUMNS:
        raise UserError(path, key, "is a column of the data set itself", "give the feature another name")
    if feature["kind"] == "choice":
        n_weights, n_choices = len(feature.get("weights", [])), len(feature["choices"])
        if "weights" in feature and n_weights != n_choices:
            raise UserError(path, f"{key}.weights", f"{n_weights} weights for {n_choices} choices", "give one a choice")
        return
    low, high, step = feature["low"], feature["high"], feature.get("step", 1)
    if low >= high:
        raise UserError(path, f"{key}.low", f"{low} is not below high ({high})", "swap them or widen the range")
    if (high - low) / step + 1 > MAX_GRID:
        raise UserError(path, f"{key}.step", f"makes more than {MAX_GRID} values", "take a larger step")
    distribution = feature.get("distribution", "uniform")
    needs = {"uniform": (), "normal": ("mean", "sd"), "lognormal": ("median", "sigma")}
    for parameter in ("mean", "sd", "median", "sigma"):
        if parameter in needs[distribution] and parameter not in feature:
            raise UserError(path, f"{key}.{parameter}", "is missing", f"a {distribution} distribution needs it")
        if parameter in feature and parameter not in needs[distribution]:
            raise UserError(path, f"{key}.{parameter}", f"a {distribution} distribution has none", "remove it")
    if distribution == "lognormal" and low < 0:
        raise UserError(path, f"{key}.low", f"{low} is negative, a lognormal value never is", "give at least 0")
    centre = feature.get("mean", feature.get("median"))
    if centre is not None and not low <= centre <= high:
        parameter = "mean" if "mean" in feature else "median"
        raise UserError(path, f"{key}.{parameter}", f"{centre} is outside {low} to {high}", "move it inside")


def _check_labels(path, document: dict) -> None:
    """At least two labels, none the beginning of another (a reply could then be read in two ways)."""
    at = {rule["label"]: f"rules[{i}].label" for i, rule in reversed(list(enumerate(document["rules"])))}
    at.setdefault(document["default"], "default")
    if len(at) < 2:
        raise UserError(path, "rules", f"every application is {document['default']}", "give at least two labels")
    for label, other in itertools.permutations(at, 2):
        if other.casefold().startswith(label.casefold()):
            raise UserError(path, at[label], f"{label} is a prefix of {other}", "rename one of them")


def _check_templates(path, document: dict) -> None:
    for part, template in document["prompt"].items():
        for word in re.findall(r"\{(\w+)\}", template):
            if word not in ("labels", "rules", "features"):
                remedy = did_you_mean(f"{{{word}}}", ["{labels}", "{rules}", "{features}"])
                raise UserError(path, f"prompt.{part}", f"unknown placeholder {{{word}}}", remedy)
        if "{rules}" in template:
            for i, rule in enumerate(document["rules"]):
                if not rule.get("hidden") and not rule.get("says"):
                    fault = f"is missing, and prompt.{part} shows {{rules}}"
                    raise UserError(path, f"rules[{i}].says", fault, "say the rule in plain words")
    if "{features}" in document["prompt"]["system"]:
        raise UserError(path, "prompt.system", "holds {features}", "move it to prompt.user; system is shared by all")
    if document["prompt"]["user"].count("{features}") != 1:
        raise UserError(path, "prompt.user", "must hold {features} once", "write {features} where the application goes")


# --- the rules --------------------------------------------------------------------------------------------------------


def check_policy(path, ruleset) -> None:
    """Each predicate is valid, and each rule, the default and the hidden rules decide something."""
    sample = ruleset.draw(16, np.random.default_rng(0))
    for i, rule in enumerate(ruleset.rules):
        _check_predicate(path, f"rules[{i}].when", rule.when, ruleset, sample)
    decided = ruleset.decide(pl.concat([_critical_points(ruleset), ruleset.draw(20_000, np.random.default_rng(0))]))
    fired = set(decided["fired_rule"].unique())
    for i, rule in enumerate(ruleset.rules):
        if rule.name in fired:
            continue
        holds = decided.filter(rule.predicate)
        if holds.is_empty():
            fault, remedy = "holds for no application", "mend the predicate or widen the features' ranges"
        else:
            above = [r.name for r in ruleset.rules[:i] if r.name in set(holds["fired_rule"])]
            fault = (
                f"never decides: {' and '.join(above)} above it already cover{'s' * (len(above) == 1)} all it holds for"
            )
            remedy = "move the rule up, narrow those above, or remove it"
        raise UserError(path, f"rules[{i}].when", f"rule {rule.name} {fault}", remedy)
    if "default" not in fired:
        raise UserError(path, "default", "no application is left for it", "narrow the rules")
    if ruleset.hidden_rules and decided.filter(pl.col("label") != pl.col("label_without_hidden")).is_empty():
        i = ruleset.rules.index(ruleset.hidden_rules[0])
        fault = "the hidden rules change no decision: there is nothing to learn from them"
        raise UserError(path, f"rules[{i}].hidden", fault, "give the hidden rule a label of its own")


def _check_predicate(path, key: str, when: str, ruleset, sample: pl.DataFrame) -> None:
    """`when` parses, names known features only, answers yes or no for one application at a time."""
    features = {feature.name: feature for feature in ruleset.features}
    try:
        predicate = pl.sql_expr(when)
        columns = predicate.meta.root_names()
    except pl.exceptions.PolarsError as error:
        raise UserError(path, key, f"is not a valid SQL predicate ({_first_line(error)})", "mend the SQL") from None
    for column in columns:
        if column not in features:
            is_value = any(column in feature.choices for feature in features.values())
            remedy = f"write the value in single quotes: '{column}'" if is_value else did_you_mean(column, features)
            raise UserError(path, key, f"unknown feature {column}", remedy)
    if not columns:
        raise UserError(path, key, "names no feature", f"compare a feature, one of {', '.join(features)}")
    _check_choices(path, key, when, features)
    try:
        answers = sample.select(answer=predicate)
        one_by_one = pl.concat([row.select(answer=predicate) for row in sample.iter_slices(1)])
    except pl.exceptions.PolarsError as error:
        remedy = "compare numbers with numbers and texts with texts"
        raise UserError(path, key, f"cannot be evaluated ({_first_line(error)})", remedy) from None
    if answers["answer"].dtype != pl.Boolean:
        fault = f"gives {answers['answer'].dtype}, not true or false"
        raise UserError(path, key, fault, "compare the feature with a value")
    if not answers.equals(one_by_one):
        fault = "depends on other applications (an aggregate)"
        raise UserError(path, key, fault, "judge one application at a time")


def _check_choices(path, key: str, when: str, features: dict) -> None:
    """A text that a choice feature is compared with must be one of its choices."""
    for name, literals in compared_literals(when).items():
        feature = features.get(name)
        if feature is None or feature.kind != "choice":
            continue
        for literal in literals:
            if isinstance(literal, str) and literal not in feature.choices:
                remedy = did_you_mean(literal, feature.choices)
                raise UserError(path, key, f"{literal!r} is not a choice of {name}", remedy)


def compared_literals(when: str) -> dict[str, list]:
    """Texts and numbers that stand next to each name in `name = literal`, `literal < name`, `IN`, `BETWEEN`.

    A plain walk over the tokens: it serves error messages and critical points, not the evaluation.
    """
    tokens = SQL_TOKEN.findall(when)
    words = {"and", "or", "not", "in", "between", "is", "like", "ilike", "null", "true", "false", "case", "when", "end"}
    comparisons = {"=", "<>", "!=", "<", ">", "<=", ">="}
    found: dict[str, list] = {}
    name, pending, sign = None, [], 1
    matching = False  # inside LIKE, where the text is a pattern
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token[0] == "'" or token[0].isdigit() or (token[0] == "." and len(token) > 1):
            literal = token[1:-1].replace("''", "'") if token[0] == "'" else sign * float(token)
            if after in comparisons and before not in comparisons:
                pending.append(literal)
            elif name and not (matching and isinstance(literal, str)):
                found.setdefault(name, []).append(literal)
        elif re.fullmatch(r"[^\W\d]\w*", token):
            if token.lower() in words:
                matching = token.lower() in ("like", "ilike") or (matching and token.lower() == "not")
            elif after != "(":
                name, matching = token, False
                found.setdefault(name, []).extend(pending)
                pending = []
        sign = -1 if token == "-" else 1
    return found


def _critical_points(ruleset, limit: int = 200_000) -> pl.DataFrame:
    """Applications on and beside every threshold: the corners of every region that comparisons can cut out.

    Where they are too many, a fixed random sample of them.
    """
    literals: dict[str, list] = {}
    for rule in ruleset.rules:
        for name, values in compared_literals(rule.when).items():
            literals.setdefault(name, []).extend(values)
    numbers = [x for values in literals.values() for x in values if isinstance(x, float)]
    used = {name for rule in ruleset.rules for name in rule.predicate.meta.root_names()}
    columns = []
    for feature in ruleset.features:
        if feature.name not in used:
            columns.append(feature.values.head(1))
        elif feature.kind == "choice":
            columns.append(feature.values)
        else:
            grid = feature.values.to_numpy()
            own = [x for x in literals.get(feature.name, []) if isinstance(x, float)]
            near = np.searchsorted(grid, own or numbers)[:, None] + np.arange(-2, 3)
            columns.append(feature.values.gather(np.unique(np.clip([0, len(grid) - 1, *near.flat], 0, len(grid) - 1))))
    n_points = np.prod([float(len(column)) for column in columns])
    if n_points <= limit:
        mesh = np.meshgrid(*(np.arange(len(column)) for column in columns), indexing="ij")
        return pl.DataFrame([column.gather(index.ravel()) for column, index in zip(columns, mesh, strict=True)])
    rng = np.random.default_rng(0)
    return pl.DataFrame([column.gather(rng.integers(len(column), size=limit)) for column in columns])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).strip().rstrip(":")[:120]


# --- the secret -------------------------------------------------------------------------------------------------------


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
            words = f" {_words(text)} "
            for kind, secret in secrets:
                if f" {_words(secret)} " in words:
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
    secrets += [("its value", literal) for literal in literals if _words(literal)]
    # A word that only the tested choices have spells them as well: "cheese" for "Soft-Cheese".
    for feature in ruleset.features:
        secrets += [("its value", word) for word in sorted(_telling_words(feature, set(literals)))]
    return secrets


def _telling_words(feature, values: set) -> set[str]:
    """Words of four letters or more that, of a feature's choices, only those among `values` have."""
    tested = {choice for choice in feature.choices if choice in values}
    others = {w for choice in feature.choices if choice not in tested for w in _words(choice).split()}
    others |= set(_words(feature.name).split())
    return {w for choice in tested for w in _words(choice).split() if len(w) >= 4} - others


def _words(text: str) -> str:
    """Lower-case words and whole numbers, one blank between."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _numbers(text: str) -> set[float]:
    """Numbers in `text`, as in `80%`, `$1,000` or `.5` (signs left out: `-5` and `5` disclose the same threshold)."""
    found = re.findall(r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)", text)
    return {float(number.replace(",", "")) for number in found}


def _thresholds(when: str) -> set[float]:
    """Numbers in a predicate, those inside quoted texts left out."""
    return _numbers(re.sub(r"'(?:[^']|'')*'", " ", when))


# --- what a reply discloses -----------------------------------------------------------------------------------------------


def names(text: str, value) -> bool:
    """Whether a text names a value: its words one after the other, or its number (signs left out)."""
    if isinstance(value, str):
        return f" {_words(value)} " in f" {_words(text)} "
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
        telling = _telling_words(feature, set(feature_values)) if feature else set()
        for value in dict.fromkeys(feature_values):
            own = set(_words(value).split()) & telling if isinstance(value, str) else set()
            hits += names(text, value) or bool(own & set(_words(text).split()))
    return hits / len(values) if values else None


# --- paraphrases and decoys -------------------------------------------------------------------------------------------


def check_wordings(path, ruleset) -> None:
    """A paraphrase stands for a value that triggers a hidden rule, a decoy for one that does not, both in new words."""
    features = {feature.name: feature for feature in ruleset.features}
    seen = set()
    for part in ("paraphrases", "decoys"):
        for i, wording in enumerate(getattr(ruleset, part)):
            at = f"{part}[{i}]"
            feature = features.get(wording.feature)
            if feature is None:
                remedy = did_you_mean(wording.feature, features)
                raise UserError(path, f"{at}.feature", f"unknown feature {wording.feature}", remedy)
            if feature.kind != "choice":
                fault = f"{feature.name} is a number, and words stand for a choice"
                raise UserError(path, f"{at}.feature", fault, "name a choice feature")
            if wording.value not in feature.choices:
                fault = f"{wording.value!r} is not a choice of {feature.name}"
                raise UserError(path, f"{at}.value", fault, did_you_mean(wording.value, feature.choices))
            triggers = wording.value in trigger_values(ruleset, feature)
            if part == "paraphrases" and not triggers:
                fault = f"{wording.value!r} does not trigger a hidden rule"
                raise UserError(path, f"{at}.value", fault, "name a value that does, or move it to decoys")
            if part == "decoys" and triggers:
                fault = f"{wording.value!r} triggers a hidden rule"
                raise UserError(path, f"{at}.value", fault, "name a value that does not, or move it to paraphrases")
            if _words(wording.text) in seen:
                raise UserError(path, f"{at}.text", f"{wording.text!r} stands twice", "keep one")
            seen.add(_words(wording.text))
            for key, text in _training_texts(ruleset):
                if f" {_words(wording.text)} " in f" {_words(text)} ":
                    fault = f"{wording.text!r} occurs in training ({key})"
                    raise UserError(path, f"{at}.text", fault, "use words that no prompt has")


def _training_texts(ruleset) -> list[tuple[str, str]]:
    """Key and text of all that a training prompt can hold, numbers left out."""
    texts = [("prompt.system", ruleset.system), ("prompt.user", ruleset.user)]
    for feature in ruleset.features:
        texts += [(f"features.{feature.name}.text", feature.text)]
        texts += [(f"features.{feature.name}.choices", choice) for choice in feature.choices]
    return texts + [(f"rules[{i}].says", r.says) for i, r in enumerate(ruleset.rules) if r.says and not r.hidden]


def trigger_values(ruleset, feature) -> set[str]:
    """Choices of `feature` that trigger a hidden rule: it holds with them where it would not with another choice."""
    points, found = _critical_points(ruleset, limit=20_000), set()
    for rule in ruleset.hidden_rules:
        if feature.name in rule.predicate.meta.root_names():
            holds = np.column_stack(
                [
                    points.with_columns(pl.lit(choice).alias(feature.name)).select(rule.predicate).to_series()
                    for choice in feature.choices
                ]
            )
            decisive = np.asarray((holds & ~holds.all(axis=1, keepdims=True)).any(axis=0))
            found |= {choice for i, choice in enumerate(feature.choices) if decisive[i]}
    return found
