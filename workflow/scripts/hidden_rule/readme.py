"""Publish a run: copy the small set of its results, and write the README's tables from it.

    make publish            # results/laptop -> results/published -> README.md

The README's generated parts stand between comments; a test holds them to the published files.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import polars as pl

from .conclusions import conclude
from .metrics import with_adjusted
from .references import describe_references
from .tables import COSTS, METRICS, read_table

TABLES = ["metrics.parquet", "comparisons.parquet", "costs.parquet", "provenance.json"]


def publish(results: Path, published: Path) -> None:
    """Copy tables, provenance and vector charts of a run, in the place of what another one left."""
    shutil.rmtree(published / "charts", ignore_errors=True)
    (published / "charts").mkdir(parents=True)
    for name in TABLES:
        shutil.copyfile(results / name, published / name)
    for path in sorted((results / "charts").glob("*.svg")):
        shutil.copyfile(path, published / "charts" / path.name)


def percent(row: dict | None) -> str:
    """`75.0 (72.2–77.6)`: a share and its interval in percent, or a dash."""
    if row is None or row["value"] is None:
        return "–"
    value, low, high = (100 * row[key] for key in ("value", "ci_low", "ci_high"))
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def read_comparisons(path: Path) -> pl.DataFrame:
    """Published comparisons; a run may be older than the columns `p_adjusted`, made anew, and `mde`, then null."""
    frame = read_table(path)
    if "mde" not in frame.columns:
        frame = frame.with_columns(mde=pl.lit(None, pl.Float64))
    return with_adjusted(frame)


def results_table(published: Path) -> str:
    """The README's answer, table (Markdown) and the line on what made them."""
    every = read_table(published / "metrics.parquet", METRICS)
    metrics = every.filter(pl.col("seed").is_null())
    comparisons = read_comparisons(published / "comparisons.parquet")
    costs = read_table(published / "costs.parquet", COSTS)
    record = json.loads((published / "provenance.json").read_text(encoding="utf-8"))
    study = record["config"]["charts"]["published"]

    def find(condition, suite, decoding, metric):
        same = {"condition": condition, "suite": suite, "decoding": decoding, "metric": metric}
        rows = metrics.filter(*(pl.col(key) == value for key, value in same.items()))
        return rows.row(0, named=True) if rows.height else None

    conditions = list(record["config"]["conditions"])
    labels = metrics["label"].drop_nulls().unique().to_list()
    references = describe_references(record["config"])
    reading = ("holdout", "structured")
    answer = conclude(every, comparisons, [], [], labels, conditions, reading, references=references)
    lines = [
        f"**{answer['headline']}**",
        "",
        "| condition | accuracy | recall on the hidden rule | precision on it "
        "| free decoding: accuracy | invalid replies | training | the study's accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for condition in conditions:
        spent = costs.filter(pl.col("condition") == condition, pl.col("stage") == "train")["wall_s"].mean()
        cells = [
            condition,
            percent(find(condition, "holdout", "structured", "accuracy")),
            percent(find(condition, "holdout", "structured", "hidden_recall")),
            percent(find(condition, "holdout", "structured", "hidden_precision")),
            percent(find(condition, "test", "free", "accuracy")),
            percent(find(condition, "test", "free", "invalid_rate")),
            "–" if spent is None else f"{spent / 60:.1f} min",
            f"{100 * study['accuracy'][condition]:.1f}" if condition in study["accuracy"] else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n = metrics.filter(metric="accuracy", suite="holdout", decoding="structured")["n"].max()
    seeds = record["config"]["seeds"]
    model, hardware = record["model"], record["hardware"]
    lines += [
        "",
        f"Percent with 95% intervals; structured decoding on {n:,} fresh applications unless it says otherwise; "
        f"{model['id']}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; "
        f"{hardware['cores']} cores of {hardware['cpu']}, commit `{record['git']['commit'][:12]}`, "
        f"{record['created'][:10]}. "
        "The study's figures are of a 14B model and its 160 test applications.",
    ]
    return "\n".join(lines)


def bench_table(published: Path) -> str:
    """The table of `make bench` (Markdown), from its own module."""
    sys.path.append(str(Path(__file__).resolve().parents[3] / "bench"))
    import bench

    return bench.table(json.loads((published / "bench.json").read_text(encoding="utf-8"))).strip()


def with_generated(readme: str, published: Path) -> str:
    """`readme` with its generated parts, each between two comments, written anew from the published files."""
    for part, make in {"results": results_table, "bench": bench_table}.items():
        begin, end = f"<!-- generated by make publish: {part} -->", f"<!-- end of {part} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(readme):
            raise ValueError(f"README.md has no part between {begin} and {end}")
        text = f"{begin}\n{make(published)}\n{end}"
        readme = pattern.sub(lambda _, text=text: text, readme)
    return readme


def main(results: str, published: str, readme: str) -> None:
    """Publish `results` into `published` and write `readme` anew."""
    publish(Path(results), Path(published))
    page = Path(readme)
    page.write_text(with_generated(page.read_text(encoding="utf-8"), Path(published)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
