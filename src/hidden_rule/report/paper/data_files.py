"""The run's tables of numbers as CSV, and `results-schema.md`, which says what each column is."""

import io
import re
import tokenize
from pathlib import Path

import polars as pl

from hidden_rule.core import tables
from hidden_rule.experiment.results import Results

# Files of the zip by the name of the schema that declares their columns in core/tables.py; METRICS.value is of `metric`
FILES = {
    "METRICS": "metrics",
    "COMPARISONS": "comparisons",
    "COSTS": "costs",
    "COLLAPSE": "collapse",
    "SUPERVISION": "supervision",
    "SIDE_EFFECTS_SUMMARY": "side_effects",
    "RULES": "rules",
    "LEARNT_RULES": "learnt_rules",
}
SEEDLESS = ("METRICS", "COMPARISONS", "SIDE_EFFECTS_SUMMARY")  # with rows that are pooled over seeds
POOLED = "whether the row is pooled over seeds"
SEEDS = "the seeds that it is of, with a blank between them"
SAID = {  # of columns that say it all, and of those whose names recur
    "condition": "name of the condition in the config",
    "condition_a": "the first condition of the pair",
    "condition_b": "the second",
    "seed": "training seed",
    "suite": "split, or suite made from the ruleset",
    "decoding": "structured or free",
    "metric": "name of the metric; statistics/metrics.py and docs/statistics.md define each",
    "test": "name of the test behind p_value; docs/statistics.md",
    "ci_low": "lower end of the 95% confidence interval",
    "ci_high": "upper end of the 95% confidence interval",
    "p_value": "two-sided p-value",
    "value": "the estimate",
    "device": "cpu, or the name of the GPU",
    "label": "decision",
    "n": "rows in the denominator",
    "high": "upper one-sided bound of share",
    "gap_to": "end of that gap",
    "n_tokens_trained": "tokens trained on, padding excluded",
    "n_tokens_generated": "tokens generated",
    "peak_bytes": "largest memory in use",
    "load_end": "load average at the end",
    "lift_low": "lower end of the 95% confidence interval of lift",
    "lift_high": "upper end of the 95% confidence interval of lift",
    "threshold": "what the feature is compared with",
    "threshold_high": "upper end of its 95% confidence interval",
    "fidelity_low": "lower end of the 95% confidence interval of fidelity",
    "fidelity_high": "upper end of the 95% confidence interval of fidelity",
    "n_answers": "answers of the run",
}
SHARES = {"value", "ci_low", "ci_high", "difference", "mde"}
UNITS = (  # by the end of a name
    ("n", "count"), ("collapsed_since", "optimizer steps"), ("place", "position, from 0"),
    ("_s", "seconds"), ("_bytes", "bytes"), ("_share", "share, 0 to 1"), ("tokens_trained", "tokens"),
    ("tokens_generated", "tokens"), ("flops", "floating-point operations"), ("p_value", "probability, 0 to 1"),
    ("p_adjusted", "probability, 0 to 1"), ("entropy", "nats"), ("precision", "share, 0 to 1"), ("bits", "bits"),
    ("bits_labels", "bits"), ("bits_rewards", "bits"), ("fidelity", "share, 0 to 1"), ("fidelity_low", "share, 0 to 1"),
    ("fidelity_high", "share, 0 to 1"), ("overlap", "share, 0 to 1"), ("most_frequent", "share, 0 to 1"),
    ("label_noise", "share, 0 to 1"), ("since", "optimizer steps"), ("gap_from", "optimizer steps"),
    ("gap_to", "optimizer steps"), ("share", "share, 0 to 1"), ("low", "share, 0 to 1"), ("high", "share, 0 to 1"),
    ("load_start", "running processes"), ("load_end", "running processes"), ("threshold", "the feature's unit"),
    ("threshold_low", "the feature's unit"), ("threshold_high", "the feature's unit"), ("lift", "ratio"),
    ("true_threshold", "the feature's unit"), ("lift_low", "ratio"), ("lift_high", "ratio"),
)  # fmt: skip


# Texts that a spreadsheet would compute: by their first character, which other numbers may have too
FORMULA = r"^[=@\t\r\n＝＋－＠]|^[+-]"
NUMBER = r"^[+-]?[\d.,]+%?(?: [\d.,%()–−+a-z -]*)?$"


def plain_cell(text: str) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula: those begin with an apostrophe, and are shown."""
    return f"'{text}" if re.search(FORMULA, text) and not re.search(NUMBER, text) and len(text) > 1 else text


def csv_files(results: Results) -> dict[str, str]:
    """CSV by file name, of the tables that the run has; full precision, lists joined by `; `, null is empty.

    Labels and texts are a user's: those that a spreadsheet would compute begin with an apostrophe.
    """
    found = {}
    for schema, name in FILES.items():
        frame = getattr(results, name)
        if frame is not None:
            flat = flat_table(frame, schema, results.seeds)
            cells = pl.col(pl.String).map_elements(plain_cell, return_dtype=pl.String)
            found[f"{name}.csv"] = flat.with_columns(cells).write_csv()
    return found


def flat_table(frame: pl.DataFrame, schema: str, seeds: list[int]) -> pl.DataFrame:
    """A table without lists; of one with pooled rows, `pooled` and `seeds` in the place of `seed`."""
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    frame = frame.with_columns(pl.col(lists).list.join("; "))
    if schema not in SEEDLESS:
        return frame
    every = " ".join(map(str, seeds))
    place = frame.columns.index("seed")
    pooled = frame["seed"].is_null().alias("pooled")
    of = frame["seed"].cast(pl.String).fill_null(every).alias("seeds")
    return frame.drop("seed").insert_column(place, pooled).insert_column(place + 1, of)


def declared() -> dict[str, dict[str, tuple[str, str]]]:
    """By schema of core/tables.py and column: its type, and the comment beside it there."""
    source = Path(tables.__file__).read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, dict[str, tuple[str, str]]] = {}
    schema = ""
    for number, line in enumerate(source.splitlines(), 1):
        if head := re.match(r"([A-Z_]+) = pl\.Schema\(", line):
            schema = head[1]
            found[schema] = {}
        elif schema and (column := re.match(r' {8}"(\w+)": pl\.(\w+)', line)):
            found[schema][column[1]] = (column[2], comments.get(number, ""))
        elif line == ")":
            schema = ""
    return found


def unit_of(schema: str, column: str, dtype: str) -> str:
    """The unit of a column; a dash for texts and truth values."""
    if dtype in ("String", "Boolean", "List"):
        return "–"
    if schema in ("METRICS", "COMPARISONS") and column in SHARES:
        span = "0 to 1" if schema == "METRICS" else "−1 to 1"
        return f"share, {span}; of expected_cost the unit of decision_costs per 1,000 cases"
    if schema == "SIDE_EFFECTS_SUMMARY" and column in SHARES:
        return "nats a token for kl and log_likelihood_change, else share"
    for end, unit in UNITS:
        if column == end or (end.startswith("_") and column.endswith(end)):
            return unit
    return "count" if dtype == "Int64" and column != "seed" else "–" if column == "seed" else "share, 0 to 1"


def results_schema(names) -> str:
    """Markdown: type, unit and meaning of every column of the CSV files `names`, as core/tables.py declares them."""
    of = declared()
    lines = [
        "# Columns of the CSV files",
        "",
        "Numbers are in full precision; an empty cell is undefined or not known.",
        "",
    ]
    for schema, name in FILES.items():
        if f"{name}.csv" not in names:
            continue
        lines += [f"## {name}.csv", "", "| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        for column, (dtype, comment) in of[schema].items():
            if column == "seed" and schema in SEEDLESS:
                lines += [f"| pooled | Boolean | – | {POOLED} |", f"| seeds | String | – | {SEEDS} |"]
                continue
            said = (comment or SAID.get(column, "")).replace("|", "\\|")
            lines.append(f"| {column} | {dtype} | {unit_of(schema, column, dtype)} | {said} |")
        lines.append("")
    return "\n".join(lines)
