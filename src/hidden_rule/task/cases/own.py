"""A file of past decisions as the rest of the workflow takes it: a ruleset, and the splits of its cases."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from hidden_rule.core.schemas import did_you_mean, quoted
from hidden_rule.task.cases import findings
from hidden_rule.task.cases.columns import Column, read_columns
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import ROW, CaseFile, open_cases
from hidden_rule.task.cases.labels import Labels, read_labels
from hidden_rule.task.cases.splits import GROUP, SPLIT, TIME, SplitSettings, split_rows
from hidden_rule.task.cases.stated_rules import StatedRules, check_rules, read_stated_rules, rule_lines, with_rules
from hidden_rule.task.cases.text_files import Form
from hidden_rule.task.cases.times import read_times
from hidden_rule.task.dataset import SPLITS, dataset_schema
from hidden_rule.task.nouns import CASE
from hidden_rule.task.ruleset import Feature, Ruleset
from hidden_rule.task.ruleset_checks import RESERVED_COLUMNS

USUAL_SIZES = {"train": 640, "validation": 160, "test": 160, "holdout": 1000}
PLACE = "\x00place"  # of a case in its split
OWN_PLACES = ("labels", "rules", "features")  # placeholders that are no columns
TELLS_NOTHING = {
    "identifier": "an identifier: each case has its own",
    "constant": "the same in all cases",
    "empty": "no case has a value",
}
SYSTEM = 'Decide the case. Choose one of these decisions: {labels}.\nReply with JSON only: {"decision": "<LABEL>"}'
WITH_RULES = "\nStated rules:\n{rules}"


@dataclass(frozen=True)
class CaseSettings:
    """What the config says of a file of cases; the names are those of its section `data`."""

    path: str
    label: str
    splits: SplitSettings
    labels: tuple[str, ...] = ()
    id: str | None = None
    text: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    split: str | None = None
    ruleset: str | None = None
    prompt: dict = field(default_factory=dict)
    cut_texts: int | None = None  # characters
    form: Form = field(default_factory=Form)
    decimal: str | None = None


def case_settings(data: dict) -> CaseSettings:
    """The settings of a section `data`; `asked` of it are the sizes that the user gives, others are the usual ones."""
    sizes = USUAL_SIZES | data["asked"]
    texts = data.get("text", [])
    return CaseSettings(
        path=data["path"],
        label=data["label"],
        splits=SplitSettings(sizes, frozenset(data["asked"]), data["seed"], data.get("balance", False)),
        labels=tuple(data.get("labels", ())),
        text=(texts,) if isinstance(texts, str) else tuple(texts),
        features=tuple(data.get("features", ())),
        prompt=data.get("prompt", {}),
        form=Form(data.get("encoding"), data.get("separator")),
        **{key: data.get(key) for key in ("id", "group", "time", "split", "ruleset", "cut_texts", "decimal")},
    )


@dataclass(frozen=True)
class OwnCases:
    """The cases of a file; `findings` are lines on what it holds, `warnings` those that its owner should look into."""

    ruleset: Ruleset
    splits: dict[str, pl.DataFrame]
    findings: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Contents:
    """What a file holds, before it is split."""

    labels: Labels
    columns: list[Column]  # that cases are decided by
    left_out: dict[str, str]  # why, by column
    stated: StatedRules | None

    def lines(self, file: CaseFile) -> list[str]:
        """On what the file holds, for people."""
        return [
            f"{file.path}: {file.n_rows:,} cases, {len(file.columns)} columns",
            *file.notes,
            *self.labels.notes,
            *findings.label_lines(self.labels, file.n_rows),
            *findings.column_lines(self.columns, self.left_out),
        ]

    def warnings(self, file: CaseFile) -> list[str]:
        """On columns that give labels away."""
        return [
            f"{name} alone gives the label of {right:.1%} of the cases: is it known before the decision? "
            "If not, leave it out of data.features"
            for name, right in findings.tell_tales(file, self.columns, self.labels)
        ]


def read_own_cases(settings: CaseSettings) -> OwnCases:
    """Ruleset, splits and findings of a file.

    Raises CaseSettingError for a setting that does not fit the file, and UserError for what is wrong in a file.
    """
    with open_cases(settings.path, settings.form) as file:
        return divided(settings, file, contents_of(settings, file))


def contents_of(settings: CaseSettings, file: CaseFile) -> Contents:
    """What a file holds; raises as `read_own_cases`."""
    _check_columns(settings, file)
    labels = read_labels(file, settings.label, settings.labels)
    stated = None
    if settings.ruleset:
        stated = read_stated_rules(settings.ruleset, file.columns, tuple(labels.counts))
    columns, left_out = _chosen_columns(settings, file, _templates(settings, stated))
    return Contents(labels, [_cut(column, settings.cut_texts) for column in columns], left_out, stated)


def divided(settings: CaseSettings, file: CaseFile, contents: Contents) -> OwnCases:
    """The ruleset and the splits of a file; raises as `read_own_cases`."""
    labels, columns, stated = contents.labels, contents.columns, contents.stated
    ruleset = _ruleset(settings, columns, labels, stated)
    cases = _keys(settings, file, columns, labels)
    rows, how = split_rows(settings.path, cases, settings.splits)
    splits = {split: _cases(file, columns, labels, ruleset, rows[split]) for split in SPLITS}
    if stated:
        check_rules(stated, ruleset, pl.concat(splits.values()), own_prompt=bool(_templates(settings, stated)))
    splits = {split: _decided(frame, ruleset) for split, frame in splits.items()}
    repeated = findings.repeats(cases)
    contradictions = findings.repeat_lines(repeated)[1:] if repeated.n_contradicted else []
    found = [*contents.lines(file), *findings.repeat_lines(repeated)]
    if stated:
        found += rule_lines(ruleset, pl.concat(splits.values()))
    else:
        found.append("no rules are stated (data.ruleset names a file of them)")
    found += [*how, ", ".join(f"{split} {len(frame):,} cases" for split, frame in splits.items())]
    return OwnCases(ruleset, splits, found, [*contents.warnings(file), *contradictions])


# --- columns ----------------------------------------------------------------------------------------------------------


def _check_columns(settings: CaseSettings, file: CaseFile) -> None:
    """The columns that settings name are there, each for one use."""
    used = {"label": settings.label, "id": settings.id, "group": settings.group}
    used |= {"time": settings.time, "split": settings.split}
    named = [(key, name) for key, name in used.items() if name is not None]
    for key, names in (("text", settings.text), ("features", settings.features)):
        named += [(key, name) for name in names]
    for key, name in named:
        if name not in file.columns:
            shown = ", ".join(map(quoted, file.columns[:20])) + (" …" if len(file.columns) > 20 else "")
            remedy = did_you_mean(name, file.columns, f"its columns are {shown}: is there a header line?")
            if guessed := next((note for note in file.notes if note.startswith("read as text in")), None):
                remedy += f" It was {guessed}"
            raise CaseSettingError(key, f"{settings.path} has no column {quoted(name)}", remedy)
    for key, names in (("text", settings.text), ("features", settings.features)):
        for name in names:
            if name == settings.label:
                raise CaseSettingError(key, f"{quoted(name)} is the label itself", "leave it out")
    if clash := [key for key, name in used.items() if key != "label" and name == settings.label]:
        raise CaseSettingError(clash[0], f"{quoted(settings.label)} is the label", "name another column")
    ways = [key for key in ("group", "time", "split") if used[key] is not None]
    if len(ways) > 1:
        raise CaseSettingError(ways[1], f"stands beside data.{ways[0]}, and cases are split in one way", "keep one")


def _templates(settings: CaseSettings, stated: StatedRules | None) -> dict[str, str]:
    """The user's own templates of the prompt, the config's first."""
    return (stated.document.get("prompt", {}) if stated else {}) | settings.prompt


def _placeholders(template: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\{([^{}]+)\}", template)))


def _chosen_columns(settings: CaseSettings, file: CaseFile, templates: dict) -> tuple[list[Column], dict[str, str]]:
    """The columns that cases are decided by, in the order of the prompt, and why others are left out."""
    aside = {settings.label: "the label"}
    for key in ("id", "group", "time", "split"):
        if (name := getattr(settings, key)) is not None and name not in (*settings.features, *settings.text):
            aside[name] = f"data.{key}"
    template = templates.get("user", "{features}")
    shown = [name for name in _placeholders(template) if name in file.columns and name not in OWN_PLACES]
    if settings.label in shown:
        fault = "shows the label, which is to be decided"
        raise CaseSettingError("prompt.user", fault, f"leave {{{settings.label}}} out")
    if "{features}" not in template and not shown:
        remedy = "write {features}, or columns in braces, where the case goes"
        raise CaseSettingError("prompt.user", "shows nothing of a case", remedy)
    if "{features}" not in template:
        names = shown
    elif settings.features or settings.text:
        names = list(dict.fromkeys([*settings.features, *settings.text, *shown]))
    else:
        names = [name for name in file.columns if name not in aside or name in shown]
    asked = {*settings.features, *settings.text, *shown}
    columns = read_columns(file, names, settings.decimal, settings.text)
    left_out = {name: why for name, why in aside.items() if name not in columns and name != settings.label}
    for name, column in list(columns.items()):
        if column.kind == "empty" or (column.kind in TELLS_NOTHING and name not in asked):
            if name in asked:
                raise CaseSettingError("features", f"{quoted(name)} is empty in all cases", "leave it out")
            left_out[name] = TELLS_NOTHING[column.kind]
            del columns[name]
    not_asked = [name for name in file.columns if name not in columns and name not in {*left_out, settings.label}]
    if not_asked:
        left_out |= dict.fromkeys(not_asked, "not named by data.features or data.text")
    if not columns:
        remedy = "name some in data.features or data.text"
        raise CaseSettingError("features", f"{settings.path} has no column that tells cases apart", remedy)
    found = [column if column.kind not in TELLS_NOTHING else _as_shown(column) for column in columns.values()]
    is_ordered = "{features}" not in template or settings.features or settings.text
    return found if is_ordered else sorted(found, key=_variety), left_out


def _variety(column: Column) -> tuple[int, int]:
    """A key that puts columns first in which cases are alike: prompts that begin alike are computed together."""
    if column.kind == "choice":
        return 0, -max(column.weights)
    return (1, column.n_distinct) if column.kind == "number" else (2, 0)


def _as_shown(column: Column) -> Column:
    """An identifier, or a constant, that the user asks for: a text."""
    values = column.values.cast(pl.String)
    return replace(column, kind="text", values=values, samples=tuple(map(str, column.samples)) or ("…",))


def _cut(column: Column, length: int | None) -> Column:
    """A text column, its texts cut to `length` characters."""
    if column.kind != "text" or length is None:
        return column
    is_long = column.values.str.len_chars() > length
    values = pl.when(is_long).then(column.values.str.head(length) + "…").otherwise(column.values)
    note = f"{column.name}: texts of more than {length:,} characters are cut (data.cut_texts)"
    return replace(column, values=values, notes=[*column.notes, note])


def feature_name(column: str) -> str:
    """The name of a column in tables of ours: its own, unless that is one of our columns'."""
    return f"column {column}" if column in RESERVED_COLUMNS or column.startswith("_") else column


# --- the ruleset ------------------------------------------------------------------------------------------------------


def _ruleset(settings: CaseSettings, columns: list[Column], labels: Labels, stated: StatedRules | None) -> Ruleset:
    """The ruleset of the cases: features with their observed values, labels, stated rules if any, and the prompt."""
    words = stated.texts if stated else {}
    templates = _templates(settings, stated)
    only_text = len(columns) == 1 and columns[0].kind == "text"
    stem = re.sub("[^a-z0-9]+", "_", Path(settings.path).stem.lower()).strip("_")
    ruleset = Ruleset(
        name=stem or "cases",
        description=f"Past decisions ({Path(settings.path).name}).",
        features=tuple(_feature(column, words.get(column.name, {}), only_text) for column in columns),
        rules=(),
        default=None,
        system="",
        user=templates.get("user", "{features}"),
        observed_labels=tuple(labels.counts),
        source=settings.path,
        case=CASE,
    )
    if stated:
        ruleset = with_rules(ruleset, stated)
    visible = [rule for rule in ruleset.rules if not rule.hidden]
    says_all = bool(visible) and all(rule.says for rule in visible)
    system = templates.get("system", SYSTEM + WITH_RULES * says_all)
    known = {*OWN_PLACES, *ruleset.feature_names, *(column.name for column in columns)}
    for part, template in (("system", system), ("user", ruleset.user)):
        for name in _placeholders(template):
            if re.fullmatch(r"\w+", name) and name not in known:
                remedy = did_you_mean(f"{{{name}}}", [f"{{{one}}}" for one in sorted(known)])
                raise CaseSettingError(f"prompt.{part}", f"unknown placeholder {{{name}}}", remedy)
            if part == "system" and name in known - {"labels", "rules"}:
                fault, remedy = f"holds {{{name}}}", "move it to prompt.user; system is shared by all cases"
                raise CaseSettingError("prompt.system", fault, remedy)
    return replace(ruleset, system=system)


def _feature(column: Column, words: dict, only_text: bool) -> Feature:
    name = " ".join(column.name.replace("{", "(").replace("}", ")").split())
    text = words.get("text") or ("{value}" if only_text else f"{name}: {{value}}")
    about: dict[str, Any] = {
        "name": feature_name(column.name),
        "text": text,
        "unit": words.get("unit", ""),
        "column": column.name,
    }
    if column.kind == "number":
        step = 10.0**-column.decimals if column.decimals else 1
        low, high = (round(column.samples[i], column.decimals) for i in (0, -1))
        return Feature(kind="number", low=low, high=high, step=step, observed=column.samples, **about)
    if column.kind == "choice":
        weights = tuple(map(float, column.weights))
        return Feature(kind="choice", choices=column.samples, weights=weights, observed=column.samples, **about)
    return Feature(kind="text", observed=column.samples or ("…",), **about)


# --- the cases --------------------------------------------------------------------------------------------------------


def _keys(settings: CaseSettings, file: CaseFile, columns: list[Column], labels: Labels) -> pl.DataFrame:
    """Of every row what splits are made by: ROW, CASE, `label`, and the column of the user's that says more."""
    of = {GROUP: settings.group, TIME: settings.time, SPLIT: settings.split}
    further = [pl.col(name).str.strip_chars().alias(key) for key, name in of.items() if name is not None]
    cases = file.select(ROW, findings.case_numbers(columns), labels.values.alias("label"), *further)
    for key in (GROUP, TIME):
        if key in cases.columns and (empty := cases.filter(pl.col(key).is_null()).sort(ROW)).height:
            setting = "group" if key == GROUP else "time"
            fault = f"{settings.path}, {file.where(empty[ROW][0], of[key])}: is empty"
            raise CaseSettingError(setting, fault, "fill it in, or delete the row")
    if settings.id is not None:
        _check_ids(settings, file)
    if settings.time is not None:
        times = read_times(file, settings.time, cases)
        cases = cases.with_columns(times.alias(TIME))
    return cases


def _check_ids(settings: CaseSettings, file: CaseFile) -> None:
    """No two cases have one identifier."""
    ids = pl.col(str(settings.id))
    counted = file.cells.group_by(ids.alias("id")).agg(n=pl.len(), rows=pl.col(ROW).sort().head(2))
    twice = counted.filter(pl.col("n") > 1).collect(engine="streaming")
    if twice.height:
        first, second = min(twice["rows"].to_list())
        fault = f"{settings.path}: rows {first} and {second} have the same {settings.id}"
        raise CaseSettingError("id", fault, f"name a column whose values differ, or take group: {settings.id}")


def _cases(file: CaseFile, columns: list[Column], labels: Labels, ruleset: Ruleset, rows: pl.Series) -> pl.DataFrame:
    """The cases of some rows, in their order: `application_id` is the row in the file, then features and label."""
    order = pl.DataFrame({ROW: rows}).with_columns(pl.int_range(pl.len()).alias(PLACE))
    values = [
        column.values.cast(feature.dtype).alias(feature.name)
        for column, feature in zip(columns, ruleset.features, strict=True)
    ]
    frame = file.cells.join(order.lazy(), on=ROW, how="inner")
    found = frame.select(pl.col(ROW).alias("application_id"), *values, labels.values.alias("label"), PLACE)
    return found.collect(engine="streaming").sort(PLACE).drop(PLACE)


def _decided(frame: pl.DataFrame, ruleset: Ruleset) -> pl.DataFrame:
    """Cases with what the stated rules say of them; the label stays the file's."""
    said = ruleset.decide(frame.select(ruleset.feature_names)).select("fired_rule", "label_without_hidden")
    return pl.concat([frame, said], how="horizontal").select(dataset_schema(ruleset).names())
