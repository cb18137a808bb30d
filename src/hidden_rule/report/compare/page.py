"""Compare two finished runs: one page of what differs in their settings, metrics, costs and provenance.

    make compare A=results/laptop B=results/mine        # -> results/compare/laptop-mine.html

Differences are B − A, paired where both runs answered the same cases (`statistics/run_comparisons.py`).
"""

import argparse
from pathlib import Path

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.files import write_text
from hidden_rule.core.paths import ROOT, WORKFLOW
from hidden_rule.experiment.display import display_names
from hidden_rule.experiment.results import Results
from hidden_rule.report.compare.sources import provenance_rows, settings_that_differ
from hidden_rule.report.finished import read_finished
from hidden_rule.report.standalone import render_page
from hidden_rule.report.tables import TESTS
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.phrases import (
    amount,
    amount_interval,
    duration,
    in_table,
    listing,
    p_text,
    signed,
    signed_amount,
)
from hidden_rule.statistics.expected_cost import METRIC as COST
from hidden_rule.statistics.run_comparisons import (
    Difference,
    SettingDifferences,
    compare_runs,
    seed_pairs,
    shared_conditions,
)
from hidden_rule.statistics.training_costs import training_costs
from hidden_rule.task.nouns import APPLICATION

LEVEL = 0.05


def build_comparison(a: Results, b: Results) -> dict:
    """Everything that the template shows."""
    differences = compare_runs(a, b)
    names = display_names(b.config["conditions"])
    return {
        "a": side(a),
        "b": side(b),
        "sentences": sentences(a, b, differences, names),
        "only": only_in_one(a, b),
        "settings": settings_that_differ(a.config, b.config),
        "metrics": [metrics_table(of, names, b) for of in differences if of.rows],
        "costs": cost_rows(a, b, names),
        "provenance": provenance_rows(a, b),
    }


def side(results: Results) -> dict:
    """What the page says of one run at its top."""
    return {
        "experiment": results.config.get("experiment", results.layout.folder.name),
        "folder": str(results.layout.folder),
        "seeds": ", ".join(map(str, results.seeds)),
        "badges": badges(results),
    }


# --- sentences --------------------------------------------------------------------------------------------------------


def sentences(a: Results, b: Results, differences: list[SettingDifferences], names: dict[str, str]) -> list[str]:
    """What differs in accuracy in the main setting, and what is paired there."""
    if not shared_conditions(a, b):
        return ["No condition is in both runs: their metrics cannot be compared."]
    if not differences:
        return ["No suite and decoding was evaluated in both runs: their metrics cannot be compared."]
    main = differences[0]
    rows = [row for row in main.rows if row.metric == "accuracy"]
    if main.why_unpaired:
        return [
            f"{main.setting.words}: unpaired, because {main.why_unpaired}.",
            "Unpaired differences have an interval and no test.",
        ]
    said = [f"{main.setting.words}: paired on the same {b.ruleset.case.many}; {seeds_in_words(a, b)}."]
    clear = [row for row in rows if row.p_adjusted is not None and row.p_adjusted < LEVEL]
    for row in clear:
        better = "B" if row.difference.value > 0 else "A"
        size = f"{100 * abs(row.difference.value):.1f} points"
        p = p_text(row.p_adjusted or 0.0)
        said.append(f"{names[row.condition]}: accuracy is higher in {better} by {size} ({p}, Holm-adjusted).")
    rest = [names[row.condition] for row in rows if row not in clear]
    if rest:
        said.append(f"Accuracy of {listing(rest)}: not significantly different.")
    return said


def seeds_in_words(a: Results, b: Results) -> str:
    """Which seeds are paired with which."""
    pairs = seed_pairs(a.seeds, b.seeds)
    if all(first == second for first, second in pairs):
        left_out = len({*a.seeds} ^ {*b.seeds})
        rest = f" ({left_out} of one run alone left out)" if left_out else ""
        return f"seed{'s' if len(pairs) > 1 else ''} {listing(str(seed) for seed, _ in pairs)} of both{rest}"
    return f"no seed in common, so seeds in their order: {listing(f'{first} with {second}' for first, second in pairs)}"


def only_in_one(a: Results, b: Results) -> list[str]:
    """Conditions that one run alone has."""
    said = []
    for name, of, other in (("A", a, b), ("B", b, a)):
        names = display_names(of.config["conditions"])
        if alone := [names[condition] for condition in of.conditions if condition not in other.conditions]:
            said.append(f"Only in {name}: {listing(alone)}.")
    return said


# --- tables -----------------------------------------------------------------------------------------------------------


def metrics_table(of: SettingDifferences, names: dict[str, str], results: Results) -> dict:
    """The differences in one setting."""
    rows = []
    for row in of.rows:
        cells = [f"{row.metric.replace('_', ' ')}{f', {row.rule}' if row.rule else ''}", names[row.condition]]
        cells += [value_cell(row, row.a), value_cell(row, row.b), difference_cell(row)]
        if not of.why_unpaired:
            test = TESTS.get(row.test or "", "–").replace(APPLICATION.many, results.ruleset.case.many)
            cells += [p_cell(row.p_value), p_cell(row.p_adjusted), test]
        rows.append([*cells, f"{row.difference.n:,}"])
    columns = ["metric", "condition", "A (95% CI)", "B (95% CI)", "B − A, points (95% CI)"]
    columns += ["n"] if of.why_unpaired else ["p", "p (Holm)", "test", "n"]
    how = f"unpaired, because {of.why_unpaired}" if of.why_unpaired else "paired on the same cases"
    return {"caption": f"{of.setting.words}: {how}", "columns": columns, "rows": rows}


def value_cell(row: Difference, estimate) -> str:
    if row.metric != COST:
        return in_table(estimate)
    return f"{amount(estimate.value)} ({amount_interval(estimate.low, estimate.high)})"


def difference_cell(row: Difference) -> str:
    write = signed_amount if row.metric == COST else signed
    return f"{write(row.difference.value)} ({write(row.difference.low)} to {write(row.difference.high)})"


def p_cell(value: float | None) -> str:
    return "–" if value is None else p_text(value).removeprefix("p ").removeprefix("= ")


def cost_rows(a: Results, b: Results, names: dict[str, str]) -> list[list[str]]:
    """Training time and tokens of each shared condition that is trained, in A and in B."""
    spent = [training_costs(results.costs, results.starts) for results in (a, b)]
    rows = []
    for name in shared_conditions(a, b):
        of = [costs.get(name) for costs in spent]
        if not any(of):
            continue
        cells = [names[name]]
        for cost in of:
            busy = " (machine busy)" if cost and cost.is_disturbed and not cost.is_estimate else ""
            cells += [duration(cost.seconds) + busy, f"{cost.tokens_trained:,.0f}"] if cost else ["–", "–"]
        ratio = f"{of[1].seconds / of[0].seconds:.2f}" if of[0] and of[1] and of[0].seconds > 0 else "–"
        rows.append([*cells, ratio])
    return rows


# --- the page ---------------------------------------------------------------------------------------------------------


def write_comparison(a: Results, b: Results, output) -> None:
    """Write the page to `output`."""
    folder = WORKFLOW / "report"
    write_text(render_page(folder / "compare.html.j2", build_comparison(a, b), folder / "standalone.css"), output)


def compare_folders(a: str, b: str, output: str = "") -> Path:
    """Write the page of two folders; returns its path, which is `output` or lies under `results/compare/`."""
    of_a, of_b = read_finished(a, "A"), read_finished(b, "B")
    if Path(a).resolve() == Path(b).resolve():
        raise UserError(a, None, "is both A and B", "name two runs")
    name = f"{of_a.layout.folder.resolve().name}-{of_b.layout.folder.resolve().name}.html"
    path = Path(output) if output else ROOT / "results" / "compare" / name
    if path.is_dir():
        raise UserError(path, "OUT", "is a folder", "name a file, as in OUT=comparison.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_comparison(of_a, of_b, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two finished runs on one page.")
    parser.add_argument("a", help="folder of a finished run")
    parser.add_argument("b", help="folder of another")
    parser.add_argument("--out", default="", help="the page; by default results/compare/A-B.html")
    given = parser.parse_args()
    with one_line_errors():
        print(f"comparison: {compare_folders(given.a, given.b, given.out)}")


if __name__ == "__main__":
    main()
