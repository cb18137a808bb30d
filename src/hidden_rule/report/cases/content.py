"""What the page of cases holds, as plain values for JSON: columns of cases, and of each run's answers to them.

Texts that recur (labels, rules, replies) stand once, and cases name them by their place; −1 stands for none.
Probabilities are in thousandths.
"""

from dataclasses import dataclass, field

import polars as pl

from hidden_rule.experiment.display import DisplayedResults
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.report.cases.selection import Selection
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.prompts import render_prompts

MAX_REPLY = 4000  # characters of a reply that are kept
TRUTH = ("label", "fired_rule", "label_without_hidden")
OF_SUITES = ("suite", "family", "role", "shown_feature", "shown_text", "field_order")


@dataclass
class Places:
    """Distinct texts in the order in which they came, each by its place; None has the place −1."""

    texts: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def of(self, text: str | None) -> int:
        if text is None:
            return -1
        if text not in self.places:
            self.places[text] = len(self.texts)
            self.texts.append(text)
        return self.places[text]

    def all_of(self, column: pl.Series) -> list[int]:
        return [self.of(text) for text in column]


def content_of(results: DisplayedResults, selection: Selection) -> dict:
    """Everything that the page's script needs; see the functions for each part."""
    ruleset = results.ruleset
    labels, replies = Places(), Places()
    labels.all_of(pl.Series(results.labels, dtype=pl.String))
    cases, texts = cases_part(results, selection, labels)
    runs = [
        part
        for run in results.runs
        for decoding in ("structured", "free")
        if (part := answers_part(results, run, decoding, selection.ids, (labels, replies)))
    ]
    hidden = {rule.name for rule in ruleset.hidden_rules}
    by_name = {rule.name: rule for rule in ruleset.rules}
    rules = [
        {"name": name, "hidden": name in hidden, "when": by_name[name].when if name in by_name else ""}
        for name in texts["rules"]
    ]
    return {
        "one": ruleset.case.one,
        "many": ruleset.case.many,
        "labels": labels.texts,
        "rules": rules,
        "conditions": list(results.conditions),
        "prompts": prompts_of_their_own(results.config["conditions"]),
        "seeds": results.seeds,
        "features": [{"name": of.name, "kind": of.kind, "unit": of.unit} for of in ruleset.features],
        "suites": texts["suites"],
        "system": texts["system"],
        "cases": cases,
        "replies": replies.texts,
        "runs": runs,
    }


def evaluated_cases(results: Results) -> pl.DataFrame:
    """The rows of all evaluated splits and suites: the dataset's columns, `suite`, and those of suites."""
    evaluation = results.config["evaluation"]
    names = {*evaluation["structured"], *evaluation["free"]}
    frames = [results.split(name).with_columns(suite=pl.lit(name)) for name in SPLITS if name in names]
    if results.has_suites:
        frames.append(results.split("suites"))
    return pl.concat(frames, how="diagonal")


def cases_part(results: DisplayedResults, selection: Selection, labels: Places) -> tuple[dict, dict[str, list[str]]]:
    """Columns of N cases in the order of their ids, and the texts that they name: rules, suites, system messages."""
    frame = evaluated_cases(results).filter(pl.col("application_id").is_in(selection.ids.implode()))
    frame = frame.sort("application_id")
    rules, suites, system = Places(), Places(), Places()
    chats = render_prompts(results.ruleset, frame)
    columns: dict[str, list] = {
        "id": frame["application_id"].to_list(),
        "suite": suites.all_of(frame["suite"]),
        "label": labels.all_of(frame["label"]),
        "rule": rules.all_of(frame["fired_rule"]),
        "without": labels.all_of(frame["label_without_hidden"]),
        "system": [system.of(chat[0]["content"]) for chat in chats],
        "prompt": [chat[-1]["content"] for chat in chats],
        "values": [frame[name].to_list() for name in results.ruleset.feature_names],
    }
    if "role" in frame.columns:
        columns |= {"role": frame["role"].to_list(), "family": frame["family"].to_list()}
    return columns, {"rules": rules.texts, "suites": suites.texts, "system": system.texts}


def answers_part(
    results: DisplayedResults, run: Run, decoding: str, ids: pl.Series, texts: tuple[Places, Places]
) -> dict | None:
    """A run's answers under one decoding to the cases of `ids`; None where it gave none.

    `answer` (N,): place of the label, −1 for an invalid reply, −2 for a case that was not put to it; `reply` (N,):
    place of the text; `p` (N × L): probabilities of the labels in thousandths, case by case, null where not known.
    texts: labels and replies, of which the latter grow.
    """
    labels, replies = texts
    shares = [f"p_{label}" for label in results.labels]
    found = (
        results.predictions(run)
        .filter(pl.col("application_id").is_in(ids.implode()), decoding=decoding)
        .select("application_id", "predicted", pl.col("reply").str.slice(0, MAX_REPLY + 1), *shares)
        .collect()
    )
    if found.is_empty():
        return None
    found = pl.DataFrame({"application_id": ids, "place": pl.int_range(len(ids), eager=True)}).join(
        found.with_columns(asked=pl.lit(value=True)), on="application_id", how="left", maintain_order="left"
    )
    answers = [
        labels.of(predicted) if asked else -2 for predicted, asked in found.select("predicted", "asked").iter_rows()
    ]
    thousandths = found.select((pl.col(shares) * 1000).round().cast(pl.Int64))
    return {
        "condition": results.conditions.index(run.condition),
        "seed": run.seed,
        "decoding": decoding,
        "answer": answers,
        "reply": replies.all_of(found["reply"].map_elements(shortened, return_dtype=pl.String)),
        "p": [value for row in thousandths.iter_rows() for value in row],
    }


def shortened(reply: str) -> str:
    return reply if len(reply) <= MAX_REPLY else reply[:MAX_REPLY] + "…"


def prompts_of_their_own(conditions: dict[str, dict]) -> dict[str, str]:
    """What a condition's own prompt says beside the one that is shown, by condition."""
    prompts = {name: of["prompt"] for name, of in conditions.items() if "prompt" in of}
    return {
        name: "all rules are stated too" if prompt == "oracle" else f"{prompt['examples']} examples stand before it"
        for name, prompt in prompts.items()
    }
