"""A file of new cases, read as the cases of training were: features of their types, and labels where it has them."""

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, quoted
from hidden_rule.deployment.asked_cases import unusual, value_of
from hidden_rule.experiment.results import Results
from hidden_rule.task.cases.columns import MISSING_WORDS, read_columns
from hidden_rule.task.cases.files import ROW, CaseFile, open_cases
from hidden_rule.task.cases.text_files import Form
from hidden_rule.task.ruleset import Feature, Ruleset

LABEL = "label"  # the column of labels, unless another one is named


@dataclass(frozen=True)
class NewCases:
    """N cases of a file.

    cases: `application_id` (the row in the file, from 1) and the ruleset's features. labels: of each case, null where
    the file has none; None: no column of labels. ruleset: the run's, with the file and its columns as errors name them.
    """

    path: str
    cases: pl.DataFrame
    labels: pl.Series | None
    ruleset: Ruleset
    notes: list[str]


def read_new_cases(path: str, results: Results, label: str | None = None, encoding: str | None = None) -> NewCases:
    """The cases of a file for a finished run.

    label: its column of labels; by default the one that the run was trained on, if the file has it. Raises UserError,
    with row and column, for a column that is missing, a value that is none of its feature's, and an unknown label.
    """
    data, ruleset = results.config["data"], results.ruleset
    usual = data.get("label", LABEL) if ruleset.is_observed else LABEL
    form = Form(encoding or data.get("encoding"), data.get("separator") if ruleset.is_observed else None)
    with open_cases(path, form) as file:
        if label is not None and label not in file.columns:
            raise UserError("LABEL", None, f"{path} has no column {quoted(label)}", did_you_mean(label, file.columns))
        columns = columns_of(file, ruleset)
        found = {feature.name: values(file, columns[feature.name], feature, data) for feature in ruleset.features}
        labels = labels_of(file, label or usual, results.labels) if (label or usual) in file.columns else None
        rows = file.select(ROW)[ROW].alias("application_id")
        cases = pl.DataFrame([rows, *(pl.Series(name, of, ruleset.feature_schema[name]) for name, of in found.items())])
        named = tuple(replace(feature, column=columns[feature.name]) for feature in ruleset.features)
        notes = [*file.notes, *unusual(ruleset, cases)]
        return NewCases(path, cases, labels, replace(ruleset, source=path, features=named), notes)


def columns_of(file: CaseFile, ruleset: Ruleset) -> dict[str, str]:
    """The file's column of each feature."""
    found = {}
    for feature in ruleset.features:
        name = feature.column if ruleset.is_observed else feature.name
        if name not in file.columns:
            shown = ", ".join(map(quoted, file.columns[:20]))
            remedy = did_you_mean(name, file.columns, f"its columns are {shown}: is there a header line?")
            raise UserError(file.path, f"column {name}", "is missing, and the model was trained with it", remedy)
        found[feature.name] = name
    return found


def values(file: CaseFile, column: str, feature: Feature, data: dict) -> list:
    """A feature's value in each case."""
    is_observed = bool(feature.observed)
    cells = file.select(pl.col(column).str.strip_chars())[column]
    if feature.kind == "number":
        cells = plain_numbers(file, column, cells, data.get("decimal"))
    elif feature.kind == "text" and (most := data.get("cut_texts")) is not None:
        is_long = cells.str.len_chars() > most
        short = pl.when(is_long).then(pl.col(column).str.head(most) + "…").otherwise(pl.col(column))
        cells = cells.to_frame().select(short.alias(column))[column]
    found: list[Any] = []
    for row, cell in enumerate(cells, 1):
        try:
            found.append(value_of(feature, cell, is_observed, file.path))
        except UserError as error:
            raise UserError(file.path, file.where(row, column), error.fault, error.remedy) from None
    return found


def plain_numbers(file: CaseFile, column: str, cells: pl.Series, decimal: str | None) -> pl.Series:
    """Cells of numbers in plain notation: decimal commas and groups of thousands rewritten, words for none left out."""
    read = read_columns(file, [column], decimal)[column]
    kinds = file.cells.select(read.values.alias(column)).collect_schema()[column]
    if kinds.is_numeric():
        return file.select(read.values.alias(column))[column]
    is_none = cells.str.to_lowercase().is_in(list(MISSING_WORDS))
    return pl.select(pl.when(~is_none).then(cells).alias(column))[column]


def labels_of(file: CaseFile, column: str, known: list[str]) -> pl.Series:
    """The label of each case, null where its cell is empty; raises UserError for one that the run does not know."""
    labels = file.select(pl.col(column).str.strip_chars())[column]
    strange = labels.to_frame("label").with_row_index("row", 1).filter(
        pl.col("label").is_not_null() & ~pl.col("label").is_in(known)
    )  # fmt: skip
    if strange.height:
        row, word = strange.row(0)
        fault = f"unknown label {quoted(word)}, which the model cannot give"
        raise UserError(file.path, file.where(row, column), fault, did_you_mean(word, known))
    return labels


def labelled(new: NewCases) -> tuple[pl.DataFrame, pl.Series]:
    """The cases that have a label, and their labels."""
    assert new.labels is not None
    has = new.labels.is_not_null()
    return new.cases.filter(has), new.labels.filter(has)


def seen_before(cases: pl.DataFrame, train: pl.DataFrame, ruleset: Ruleset) -> int:
    """How many cases stand in the training split, feature by feature."""
    names = list(ruleset.feature_names)
    known = train.select(names).unique()
    return cases.select(names).join(known, on=names, how="semi", nulls_equal=True).height
