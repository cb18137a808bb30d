"""The part of a policy that is stated beside a file of past decisions: some rules, words for columns, a prompt."""

import copy
from dataclasses import dataclass, replace

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, dotted, fill_defaults, first_fault, load_schema, quoted
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.task.disclosure import check_secrets
from hidden_rule.task.nouns import nouns_of
from hidden_rule.task.predicates import check_answers, check_predicate, operations
from hidden_rule.task.ruleset import Rule, Ruleset
from hidden_rule.task.ruleset_checks import MAX_OPERATIONS

CHECKED_ONE_BY_ONE = 16  # cases


@dataclass(frozen=True)
class StatedRules:
    """What a ruleset file says of cases that come from another file."""

    path: str
    document: dict

    @property
    def texts(self) -> dict[str, dict]:
        """By column: `text` and `unit`, as far as the file gives them."""
        return self.document.get("features", {})


def read_stated_rules(path: str, columns, labels) -> StatedRules:
    """A ruleset file of which every part may be missing; a complete one does as well.

    Raises UserError for what is no such file, for a column or a label that the cases do not have, and for rules that
    have a name twice.
    """
    document, schema = read_yaml(path), _relaxed(load_schema("ruleset.schema.yaml"))
    if fault := first_fault(document, schema):
        raise UserError(path, dotted(fault[0]), *fault[1:])
    document = fill_defaults(document, schema, schema)
    for name in document.get("features", {}):
        if name not in columns:
            raise UserError(path, f"features.{name}", "is no column of the cases", did_you_mean(name, columns))
    names: list[str] = []
    for i, rule in enumerate(document["rules"]):
        if rule["name"] == "default" or rule["name"] in names:
            reason = "means that no rule fired" if rule["name"] == "default" else "stands twice"
            raise UserError(path, f"rules[{i}].name", f"{rule['name']!r} {reason}", "give another name")
        names.append(rule["name"])
    stated = {f"rules[{i}].label": rule["label"] for i, rule in enumerate(document["rules"])}
    stated |= {"default": document["default"]} if "default" in document else {}
    for key, label in stated.items():
        if label not in labels:
            raise UserError(path, key, f"no case has the label {quoted(label)}", did_you_mean(label, labels))
    return StatedRules(path, document)


def _relaxed(schema: dict) -> dict:
    """The schema of rulesets without what a file of cases says, and for any spelling of labels and columns."""
    schema = copy.deepcopy(schema)
    schema["required"] = []
    properties = schema["properties"]
    properties["features"].pop("propertyNames")
    properties["features"].pop("minProperties")
    properties["features"]["additionalProperties"] = {"type": "object"}
    properties["rules"] |= {"minItems": 0, "default": []}
    properties["prompt"]["required"] = []
    schema["$defs"]["label"] = {"type": "string", "minLength": 1, "description": "a label of the cases"}
    schema["$defs"]["rule"]["properties"]["name"].pop("pattern", None)
    return schema


def with_rules(ruleset: Ruleset, stated: StatedRules) -> Ruleset:
    """The ruleset of a file of cases with the stated rules."""
    document = stated.document
    rules = tuple(Rule(**spec) for spec in document["rules"])
    return replace(
        ruleset,
        name=document.get("name", ruleset.name),
        description=" ".join(document.get("description", "").split()) or ruleset.description,
        rules=rules,
        default=document.get("default"),
        case=nouns_of(document, ruleset.case),
    )


def check_rules(stated: StatedRules, ruleset: Ruleset, cases: pl.DataFrame, own_prompt: bool) -> None:
    """Each predicate answers yes or no for the cases; no prompt of the user's gives a hidden rule away.

    own_prompt: the templates are the user's, not those that are made for a file.
    """
    n_operations = sum(operations(rule.when) for rule in ruleset.rules)
    if n_operations > MAX_OPERATIONS:
        fault = f"have {n_operations} operations together, of at most {MAX_OPERATIONS}"
        raise UserError(stated.path, "rules", fault, "list values as in x IN (1, 2), or leave rules out")
    shown = cases.select(ruleset.feature_names)
    sample = shown.head(CHECKED_ONE_BY_ONE)
    for i, rule in enumerate(ruleset.rules):
        check_predicate(stated.path, f"rules[{i}].when", rule.when, ruleset, sample)
        check_answers(stated.path, f"rules[{i}].when", rule, shown, ruleset.case)
    for part, template in (("system", ruleset.system), ("user", ruleset.user)):
        for i, rule in enumerate(ruleset.rules):
            if "{rules}" in template and not rule.hidden and not rule.says:
                fault = f"is missing, and prompt.{part} shows {{rules}}"
                raise UserError(stated.path, f"rules[{i}].says", fault, "say the rule in plain words")
    features = tuple(replace(feature, text="{value}") for feature in ruleset.features)
    plain = ruleset if own_prompt else replace(ruleset, features=features, system="", user="")
    check_secrets(stated.path, plain)


def rule_lines(ruleset: Ruleset, cases: pl.DataFrame) -> list[str]:
    """Of each rule, the cases that it decides first, and how many of them have its label; cases: decided ones."""
    lines = []
    for rule in ruleset.rules:
        fired = cases.filter(fired_rule=rule.name)
        if fired.is_empty():
            lines.append(f"rule {rule.name} decides none of {len(cases):,} cases: check its predicate and its place")
            continue
        agree = fired.filter(label=rule.label).height / fired.height
        lines.append(f"rule {rule.name} decides {len(fired):,} cases, of which {agree:.1%} are labelled {rule.label}")
    if ruleset.rules:
        silent = cases.filter(fired_rule="default")
        if ruleset.default is None:
            lines.append(f"no rule is stated for {len(silent):,} of {len(cases):,} cases")
        elif len(silent):
            agree = silent.filter(label=ruleset.default).height / silent.height
            of_them = f"of which {agree:.1%} are labelled {ruleset.default}"
            lines.append(f"the default decides {len(silent):,} cases, {of_them}")
    return lines
