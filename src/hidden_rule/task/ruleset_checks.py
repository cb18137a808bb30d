"""What a ruleset must satisfy before anything is built on it; each fault is a UserError of one line."""

import functools
import itertools
import re
from decimal import Decimal

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, dotted, first_fault
from hidden_rule.task.disclosure import words_of
from hidden_rule.task.nouns import APPLICATION, nouns_of
from hidden_rule.task.predicates import check_answers, check_predicate, critical_points, operations, trigger_values

RESERVED_COLUMNS = (
    *("application_id", "label", "fired_rule", "label_without_hidden"),
    *("suite", "family", "role", "shown_feature", "shown_text", "field_order"),  # of suites
)
MAX_GRID = 1_000_000  # values of one number feature
MAX_NUMBER = 2**53  # up to which every whole number is a float of its own
MAX_DIGITS = 15  # that a float tells apart
MAX_OPERATIONS = 1000  # of all predicates together


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
    for bound in ("low", "high"):
        if abs(feature[bound]) > MAX_NUMBER:
            raise UserError(path, f"{key}.{bound}", f"{feature[bound]:.10g} is too large", "give at most 2^53 in size")
    if low >= high:
        raise UserError(path, f"{key}.low", f"{low} is not below high ({high})", "swap them or widen the range")
    if (decimals := decimals_of(low, step)) and decimals + len(str(int(max(abs(low), abs(high))))) > MAX_DIGITS:
        fault = f"makes numbers of {decimals} digits after the point"
        raise UserError(path, f"{key}.step", fault, f"take a rounder low and step: {MAX_DIGITS} digits at most in all")
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
        raise UserError(path, f"{key}.{parameter}", f"{centre:.10g} is outside {low} to {high}", "move it inside")


def decimals_of(*numbers: float) -> int:
    """Digits after the point that the numbers have at most."""
    exponents = [Decimal(repr(float(x))).normalize().as_tuple().exponent for x in numbers]
    return max(0, *(-exponent for exponent in exponents if isinstance(exponent, int)))


def _check_labels(path, document: dict) -> None:
    """At least two labels, none the beginning of another (a reply could then be read in two ways)."""
    at = {rule["label"]: f"rules[{i}].label" for i, rule in reversed(list(enumerate(document["rules"])))}
    at.setdefault(document["default"], "default")
    if len(at) < 2:
        one = nouns_of(document, APPLICATION).one
        raise UserError(path, "rules", f"every {one} is {document['default']}", "give at least two labels")
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
        one = nouns_of(document, APPLICATION).one
        raise UserError(path, "prompt.user", "must hold {features} once", f"write {{features}} where the {one} goes")


# --- the rules --------------------------------------------------------------------------------------------------------


def check_policy(path, ruleset) -> None:
    """Each predicate is valid, and each rule, the default and the hidden rules decide something."""
    sample = ruleset.draw(16, np.random.default_rng(0))
    n_operations = sum(operations(rule.when) for rule in ruleset.rules)
    if n_operations > MAX_OPERATIONS:
        fault = f"have {n_operations} operations together, of at most {MAX_OPERATIONS}"
        raise UserError(path, "rules", fault, "list values as in x IN (1, 2), or leave rules out")
    for i, rule in enumerate(ruleset.rules):
        check_predicate(path, f"rules[{i}].when", rule.when, ruleset, sample)
    cases = pl.concat([critical_points(ruleset), ruleset.draw(20_000, np.random.default_rng(0))])
    for i, rule in enumerate(ruleset.rules):
        check_answers(path, f"rules[{i}].when", rule, cases, ruleset.case)
    decided = ruleset.decide(cases)
    fired = set(decided["fired_rule"].unique())
    for i, rule in enumerate(ruleset.rules):
        if rule.name in fired:
            continue
        holds = decided.filter(rule.predicate)
        if holds.is_empty():
            fault, remedy = f"holds for no {ruleset.case.one}", "mend the predicate or widen the features' ranges"
        else:
            above = [r.name for r in ruleset.rules[:i] if r.name in set(holds["fired_rule"])]
            fault = (
                f"never decides: {' and '.join(above)} above it already cover{'s' * (len(above) == 1)} all it holds for"
            )
            remedy = "move the rule up, narrow those above, or remove it"
        raise UserError(path, f"rules[{i}].when", f"rule {rule.name} {fault}", remedy)
    if "default" not in fired:
        raise UserError(path, "default", f"no {ruleset.case.one} is left for it", "narrow the rules")
    if ruleset.hidden_rules and decided.filter(pl.col("label") != pl.col("label_without_hidden")).is_empty():
        i = ruleset.rules.index(ruleset.hidden_rules[0])
        fault = "the hidden rules change no decision: there is nothing to learn from them"
        raise UserError(path, f"rules[{i}].hidden", fault, "give the hidden rule a label of its own")


# --- paraphrases and decoys -------------------------------------------------------------------------------------------


def check_wordings(path, ruleset) -> None:
    """A paraphrase stands for a value that triggers a hidden rule, a decoy for one that does not, both in new words."""
    features = {feature.name: feature for feature in ruleset.features}
    seen, triggering = set(), functools.cache(lambda name: trigger_values(ruleset, features[name]))
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
            triggers = wording.value in triggering(feature.name)
            if part == "paraphrases" and not triggers:
                fault = f"{wording.value!r} does not trigger a hidden rule"
                raise UserError(path, f"{at}.value", fault, "name a value that does, or move it to decoys")
            if part == "decoys" and triggers:
                fault = f"{wording.value!r} triggers a hidden rule"
                raise UserError(path, f"{at}.value", fault, "name a value that does not, or move it to paraphrases")
            if words_of(wording.text) in seen:
                raise UserError(path, f"{at}.text", f"{wording.text!r} stands twice", "keep one")
            seen.add(words_of(wording.text))
            for key, text in _training_texts(ruleset):
                if f" {words_of(wording.text)} " in f" {words_of(text)} ":
                    fault = f"{wording.text!r} occurs in training ({key})"
                    raise UserError(path, f"{at}.text", fault, "use words that no prompt has")


def _training_texts(ruleset) -> list[tuple[str, str]]:
    """Key and text of all that a training prompt can hold, numbers left out."""
    texts = [("prompt.system", ruleset.system), ("prompt.user", ruleset.user)]
    for feature in ruleset.features:
        texts += [(f"features.{feature.name}.text", feature.text)]
        texts += [(f"features.{feature.name}.choices", choice) for choice in feature.choices]
    return texts + [(f"rules[{i}].says", r.says) for i, r in enumerate(ruleset.rules) if r.says and not r.hidden]
