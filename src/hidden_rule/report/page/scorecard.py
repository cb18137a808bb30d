"""The scorecard as the template takes it: marks, then numbers with bars."""

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import condition_colours
from hidden_rule.report.text.evidence import Evidence
from hidden_rule.report.text.expected_cost import cost_evidence
from hidden_rule.report.text.phrases import amount, amount_interval, duration, in_table, interval, money, percent
from hidden_rule.report.text.scorecard import score
from hidden_rule.report.text.training_cost import run_costs

SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗", "none": "–"}
SYMBOLS_SAID = {"pass": "Pass", "warn": "Warning", "fail": "Fail"}


def scorecard(results: Results, found: Evidence) -> dict:
    """`columns`, and a row a condition: `name`, `colour`, `hollow` (whether a reference), and `cells`."""
    marks, numbers = score(results, found), number_columns(results, found)
    colours = condition_colours(results)
    rows = []
    for name in found.order:
        if name not in found.accuracies:
            continue
        cells = [
            {"level": of[name].level, "symbol": SYMBOLS[of[name].level], "text": of[name].words, "sort": of[name].rank}
            for of in marks.values()
        ]
        cells += [column[name] for column in numbers.values()]
        rows.append({"name": name, "colour": colours[name], "hollow": name in found.beside, "cells": cells})
    return {"columns": ["condition", *marks, *numbers], "rows": rows, "n_marks": len(marks)}


def number_columns(results: Results, found: Evidence) -> dict[str, dict[str, dict]]:
    """By column, a cell a condition: `text`, `detail`, `sort`, `share` (of the bar, in percent) and `best`."""
    known = run_costs(results.costs, results.starts, results.config.get("price_per_hour"))
    columns = {"Accuracy": {name: share_cell(of) for name, of in found.accuracies.items()}}
    mark_best(columns["Accuracy"], max, found.contenders)
    if expected := cost_evidence(results):
        top = max(of.high for of in expected.costs.values()) or 1.0
        cells = {
            name: cell(amount(of.value), of.value, of.value / top, amount_interval(of.low, of.high))
            for name, of in expected.costs.items()
        }
        columns[f"Expected cost, {expected.unit}"] = cells
        mark_best(cells, min, found.contenders)
    if results.separate_rules:
        recalls = {name: results.estimate(name, results.main, "hidden_recall") for name in found.accuracies}
        columns["Recall, all hidden rules"] = {name: share_cell(of) for name, of in recalls.items() if of}
        mark_best(columns["Recall, all hidden rules"], max, found.contenders)
    times = {name: of.training_s for name, of in known.items() if of.training}
    longest = max(times.values(), default=0) or 1.0
    if times:
        columns["Training time per seed"] = {name: cell(duration(s), s, s / longest) for name, s in times.items()}
    prices = {name: of.price for name, of in known.items() if of.price is not None}
    if prices:
        columns["Price of a run"] = {name: cell(money(price), price) for name, price in prices.items()}
    empty = cell("–", None)
    return {title: {name: cells.get(name, empty) for name in found.accuracies} for title, cells in columns.items()}


def share_cell(of) -> dict:
    """A share with its interval and bar."""
    return cell(percent(of.value), of.value, of.value, interval(of.low, of.high)) | {"title": in_table(of)}


def cell(text: str, sort: float | None, share: float | None = None, detail: str = "") -> dict:
    bar = None if share is None else round(100 * min(1.0, max(0.0, share)), 2)
    return {"text": text, "sort": sort, "share": bar, "detail": detail, "best": False}


def mark_best(cells: dict[str, dict], better, contenders: list[str]) -> None:
    """Mark the best contender of a column, where there are several."""
    names = [name for name in contenders if name in cells]
    if len(names) > 1:
        cells[better(names, key=lambda name: cells[name]["sort"])]["best"] = True
