"""The texts of the files that `make new` writes; names and values in them are YAML whatever they hold."""

import json
from string import Template

from hidden_rule.task.cases.own import USUAL_SIZES, Contents
from hidden_rule.task.nouns import CaseNouns
from hidden_rule.task.ruleset import Feature, Ruleset

MAX_COLUMNS = 200  # of a file that get a line of their own
MAX_COMMENT = 100  # characters

POLICY = Template("""\
# A small policy to edit: what a case holds, the rules that decide it, and how it reads in the prompt.
# Every key is described in workflow/schemas/ruleset.schema.yaml; rulesets/fincorp.yaml is a larger example.
name: $name
description: An example, to be replaced.
case: {one: $one, many: $many} # what pages, charts and messages call a case

features: # what a case holds, in the order of the prompt
  channel:
    kind: choice # one of a list
    choices: [Online, Phone, Partner agency, Branch]
    weights: [5, 3, 1, 1] # how often each is drawn; equally often if left out
    text: "Channel: {value}" # the line in the prompt
  amount_eur:
    kind: number # from low to high in steps
    unit: EUR
    low: 10
    high: 10000
    step: 10
    text: "Amount: {value} EUR"
  days_open:
    kind: number
    unit: days
    distribution: lognormal # or uniform, which is the default, or normal with mean and sd
    low: 1
    high: 120
    median: 14
    sigma: 0.8
    text: "Open for {value} days"
  region: # decides nothing: nothing should be learned from it
    kind: choice
    choices: [North, East, South, West]
    text: "Region: {value}"

rules: # the first rule that holds decides; `when` is a SQL predicate over the features
  - name: partner_override
    label: MANUAL_REVIEW
    hidden: true # stated in no prompt: only decisions show it
    when: "channel = 'Partner agency'"
    says: it came through a partner agency # stated by a condition with `prompt: oracle` alone
  - name: large_and_old
    label: REJECT
    when: "amount_eur > 5000 AND days_open > 10"
    says: an amount above 5000 EUR that was open for more than 10 days
  - name: small_amount
    label: FAST_TRACK
    when: "amount_eur <= 1500"
    says: an amount of at most 1500 EUR
default: STANDARD # where no rule holds

# For suites (docs/suites.md): other words for what triggers a hidden rule, and words that only sound like it.
paraphrases:
  - {feature: channel, value: Partner agency, text: sent in by an agency that works with us}
  - {feature: channel, value: Partner agency, text: through one of our allied agencies}
decoys:
  - {feature: channel, value: Phone, text: asked by phone for an agency near home}
  - {feature: channel, value: Branch, text: handed in at a branch beside a travel agency}

prompt: # {labels}: the decisions; {features}: the lines above; {rules}: what `says` of the rules that are not hidden
  system: >-
    Weigh the whole case and pick one decision: {labels}.
    Reply with JSON only: {"decision": "<LABEL>"}
  user: "{features}"
""")

STATED = Template("""\
# What is said of the cases in $path beside the file itself: docs/own-data.md. Every part may be changed or left out.
name: $name
case: {one: $one, many: $many} # what pages, charts and messages call a case

features: # how a column reads in the prompt; {value} stands for its value
$features
# The rules that are stated, by priority: `when` is a SQL predicate over the columns, and prompts state what `says`.
# A rule with `hidden: true` is measured and stands in no prompt. make find-rules DATA=… proposes some.
rules: []
$example""")

OVERLAY = Template("""\
# The experiment $title. What is not set here is as in config.yaml; workflow/schemas/config.schema.yaml has every key.
experiment: $name
ruleset: $ruleset
$data""")

DATA = Template("""\
data:
  source: file
  path: $path
  label: $label # the column of decisions
$encoding  # id, group, time or split: columns that are no features; text: a column of free text. docs/own-data.md
$passes# decision_costs: what mistakes cost, docs/decision-costs.md
""")
PASSES = "sft: {epochs: 3} # passes over the cases; config.yaml has 4, which take a third longer: docs/own-data.md\n"

DRAWN = """\
# data: {train: 640, holdout: 1000} # cases that are drawn
# evaluation: {structured: [test, holdout, suites]} # what of the hidden rule was learned, docs/suites.md
"""


def as_yaml(text: str) -> str:
    """A text in double quotes, which YAML reads as that text."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in written)


def as_comment(text: str) -> str:
    """A text on one line, shortened."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= MAX_COMMENT else f"{line[: MAX_COMMENT - 1]}…"


def _about(name: str, nouns: CaseNouns) -> dict[str, str]:
    of_ruleset = name.replace("-", "_")
    return {"name": as_yaml(of_ruleset), "one": as_yaml(nouns.one), "many": as_yaml(nouns.many)}


def policy_text(name: str, nouns: CaseNouns) -> str:
    """A complete ruleset whose cases are drawn."""
    return POLICY.substitute(_about(name, nouns))


def stated_text(name: str, nouns: CaseNouns, ruleset: Ruleset, contents: Contents) -> str:
    """A ruleset beside a file of cases: its columns, and room for rules."""
    columns = {column.name: column for column in contents.columns}
    lines = [
        f"  {as_yaml(feature.column)}: {{text: {as_yaml(feature.text)}}} # {as_comment(columns[feature.column].words)}"
        for feature in ruleset.features[:MAX_COLUMNS]
    ]
    lines += [f"  # {as_comment(f'{column}: left out, {why}')}" for column, why in contents.left_out.items()]
    return STATED.substitute(
        _about(name, nouns),
        path=as_comment(ruleset.source),
        features="\n".join([*lines[: 2 * MAX_COLUMNS], ""]),
        example=_example_rule(ruleset),
    )


def _example_rule(ruleset: Ruleset) -> str:
    """A rule over some column of the file, as a comment; nothing where no column is a number or a choice."""
    feature = next((feature for feature in ruleset.features if feature.kind != "text"), None)
    if feature is None:
        return ""
    label, words = ruleset.labels[0], as_yaml("what the rule says, in plain words")
    rule = f"{{name: my_rule, label: {as_yaml(label)}, when: {as_yaml(_predicate(feature))}, says: {words}}}"
    return f"# rules:\n#   - {rule}\n"


def _predicate(feature: Feature) -> str:
    column = '"' + feature.name.replace('"', '""') + '"'
    if feature.kind == "number":
        return f"{column} > {feature.as_text(feature.observed[len(feature.observed) // 2])}"
    value = str(feature.observed[0]).replace("'", "''")
    return f"{column} = '{value}'"


def overlay_text(name: str, data: dict[str, str] | None, n_trained: int = 0) -> str:
    """An overlay that names the ruleset; data: `path` and `label` of a file of cases, perhaps `encoding`, or None.

    n_trained: cases of the file to train on. As many as are usual need fewer passes.
    """
    written = {key: as_yaml(value) for key, value in (data or {}).items()}
    encoding = f"  encoding: {written['encoding']}\n" if "encoding" in written else ""
    passes = PASSES if n_trained >= USUAL_SIZES["train"] else ""
    section = DATA.substitute(written | {"encoding": encoding, "passes": passes}) if data else DRAWN
    ruleset = as_yaml(f"rulesets/{name}.yaml")
    return OVERLAY.substitute(title=name, name=as_yaml(name), ruleset=ruleset, data=section)
