"""Time and memory of what grows: `python bench/growth.py --help`.

Each size is measured once in a process of its own; its peak memory is that process's (for Snakemake: its largest
process's). What is measured, part by part, stands in PARTS. A size is skipped, and the table says so, if the size
before it, scaled in proportion, would take longer than `--budget` seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import ROOT

PARTS = {  # name: (what is counted, sizes, what is measured)
    "train_rows": (
        "training rows",
        [160, 320, 640, 1280, 2560, 5120],
        "drawing the data; loading model and data up to the first step; the median of 2 SFT steps after one (an epoch "
        "has rows / 16 of them and is not run)",
    ),
    "group_size": ("completions a group", [2, 4, 8, 16, 32, 64, 128, 256], "a GRPO step of 16 prompts, the 2nd"),
    "evaluation": (
        "applications",
        [100, 1000, 10_000, 100_000],
        "drawing and tokenizing them; all their structured decisions, the first (slower) batch included",
    ),
    "dataset": (
        "rows of the data set",
        [10**3, 10**4, 10**5, 10**6, 10**7],
        "the rule build_dataset: drawn, decided and written, nearly all of them training rows",
    ),
    "summarize": (
        "prediction rows",
        [10**4, 10**5, 10**6, 10**7],
        "the rule summarize over 4 conditions of one seed, predictions made up beforehand in another process",
    ),
    "jobs": (
        "conditions × seeds",
        [1, 2, 4, 8, 16, 32],
        "snakemake -n of the default experiment with so many conditions of SFT; then as many jobs run whose script "
        "does nothing, one after another",
    ),
}


def config_and_ruleset():
    """The default config, and its ruleset."""
    from hidden_rule.experiment.config import load_config
    from hidden_rule.task.ruleset import load_ruleset

    config = load_config(["config.yaml"])
    return config, load_ruleset(config["ruleset"])


def load_training(folder: Path, rows: int):
    """A setup with `rows` training rows, and the seconds of drawing and of loading."""
    import bench

    overlay = folder / "rows.yaml"
    overlay.write_text(json.dumps({"data": {"train": rows, "validation": 16, "test": 16, "holdout": 16}}))
    began = time.perf_counter()
    bench.draw(bench.inputs([overlay])[0], folder)
    drawn = time.perf_counter()
    setup = bench.load(folder, [overlay])
    return setup, {"draw_s": drawn - began, "load_s": time.perf_counter() - drawn}


def grow_train_rows(rows: int, folder: Path) -> dict:
    """Seconds of the parts of an SFT training with `rows` rows."""
    setup, seconds = load_training(folder, rows)
    began = time.perf_counter()
    gauge = measure.train_ours(setup, "sft", {**setup.config["sft"], "epochs": 1}, 3)
    steps = gauge.steps()["seconds"]
    seconds["load_s"] += gauge.ends[0] - began - steps[0]  # the trainer made; its first step counted as the second
    return {**seconds, "step_s": statistics.median(steps)}


def grow_group_size(group: int, folder: Path) -> dict:
    """Seconds of a GRPO step."""
    setup, _ = load_training(folder, 32)
    settings = {**setup.config["grpo"], "epochs": 1, "group_size": group}
    gauge = measure.train_ours(setup, "grpo", settings, 2)
    return {"step_s": gauge.steps()["seconds"][0]}


def grow_evaluation(rows: int, folder: Path) -> dict:
    """Seconds of drawing and tokenizing, and of structured decisions."""
    from hidden_rule.models.decoding import label_log_probs

    setup, seconds = load_training(folder, rows)
    config, start = setup.config, setup.start
    model, batch = start.model.get_base_model().eval(), config["evaluation"]["batch_size"]
    began = time.perf_counter()
    label_log_probs(model, start.trie, start.train.prompts, batch)
    return {**seconds, "decide_s": time.perf_counter() - began}


def grow_dataset(rows: int, folder: Path) -> dict:
    """Seconds of the rule build_dataset."""
    from hidden_rule.task.build_dataset import build_dataset

    config, _ = config_and_ruleset()
    sizes = {"train": rows, "validation": 160, "test": 160, "holdout": 160}
    began = time.perf_counter()
    build_dataset(config["ruleset"], sizes, 0, {split: folder / f"{split}.parquet" for split in sizes})
    return {"write_s": time.perf_counter() - began}


def plant_predictions(rows: int, folder: Path) -> dict:
    """Write made-up predictions of 4 conditions, `rows` in all, half of them right, and their costs."""
    import numpy as np
    import polars as pl

    from hidden_rule.core.tables import COSTS, predictions_schema, write_table
    from hidden_rule.experiment.layout import Layout
    from hidden_rule.experiment.runs import Run

    _, ruleset = config_and_ruleset()
    labels, n = list(ruleset.labels), rows // 4
    fired = {rule.label: rule.name for rule in reversed(ruleset.rules)} | {ruleset.default: "default"}
    without = {rule.label: ruleset.default for rule in ruleset.hidden_rules}
    truth = np.arange(n) % len(labels)
    for condition in range(4):
        rng = np.random.default_rng(condition)
        said = np.where(rng.random(n) < 0.5, truth, rng.integers(len(labels), size=n))
        label, predicted = (pl.Series(labels).gather(pl.Series(index)) for index in (truth, said))
        frame = pl.DataFrame({"application_id": np.arange(n), "label": label, "predicted": predicted}).with_columns(
            suite=pl.lit("holdout"),
            decoding=pl.lit("structured"),
            fired_rule=pl.col("label").replace_strict(fired, return_dtype=pl.String),
            label_without_hidden=pl.col("label").replace(without),
            reply=pl.concat_str(pl.lit('{"decision": "'), "predicted", pl.lit('"}')),
            is_valid=pl.lit(True),
            **{f"p_{name}": pl.lit(1 / len(labels)) for name in labels},
        )
        schema = predictions_schema(labels)
        run = Run(f"c{condition}", 0)
        write_table(frame.select(list(schema)), Layout(folder).predictions(run), schema)
        write_table(COSTS.to_frame(), Layout(folder).evaluation_cost(run), COSTS)
    return {}


def grow_summarize(rows: int, folder: Path) -> dict:
    """Seconds of the rule summarize over what `plant_predictions` wrote."""
    from hidden_rule.experiment.results import Results
    from summarize import summarize

    _, ruleset = config_and_ruleset()
    outputs = [folder / f"{name}.parquet" for name in ("metrics", "comparisons", "costs")]
    config = {"conditions": {f"c{i}": {} for i in range(4)}, "seeds": [0]}
    config |= {"evaluation": {"structured": ["holdout"], "free": []}}
    began = time.perf_counter()
    summarize(Results(folder, config, ruleset=ruleset), *outputs)
    return {"summarize_s": time.perf_counter() - began}


TRIVIAL = """
rule all:
    input: expand("{{i}}.txt", i=range({n}))
rule nothing:
    output: "{{i}}.txt"
    script: "nothing.py"
"""


def grow_jobs(n: int, folder: Path) -> dict:
    """Seconds of planning the pipeline with `n` conditions, and of running `n` jobs that do nothing."""
    import yaml

    import bench

    snakemake = [sys.executable, "-m", "snakemake", "--cores", "1"]

    def timed(command: list, cwd: Path) -> float:
        began = time.perf_counter()
        done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr[-4000:])
        return time.perf_counter() - began

    tree, trivial = folder / "tree", folder / "trivial"
    tree.mkdir(), trivial.mkdir()
    bench.copy_tree(tree)
    conditions = {f"c{i}": {"method": "sft", "with": {"learning_rate": 1e-4 * (i + 1)}} for i in range(n)}
    whole = yaml.safe_load((tree / "config.yaml").read_text())
    config = {**whole, "conditions": conditions}  # an overlay would add to the conditions that are there
    (tree / "config.yaml").write_text(yaml.safe_dump(config))
    planned = timed([*snakemake, "-n", "--quiet", "all"], tree)
    (trivial / "Snakefile").write_text(TRIVIAL.format(n=n))
    (trivial / "nothing.py").write_text("open(snakemake.output[0], 'w').close()\n")
    return {"plan_s": planned, "run_nothing_s": timed([*snakemake, "--quiet", "all"], trivial)}


def run_one(part: str, size: int, folder: Path) -> dict:
    """One measurement in this process."""
    if part not in ("dataset", "summarize", "plant", "jobs"):
        import torch

        torch.set_num_threads(os.cpu_count())
    functions = {"plant": plant_predictions, **{name: globals()[f"grow_{name}"] for name in PARTS}}
    result = functions[part](size, folder)
    from hidden_rule.core.costs import peak_resident_bytes

    peak = peak_resident_bytes()
    if part == "jobs":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return {"seconds": result, "peak_bytes": peak}


def run_part(part: str, most: int | None, budget: float) -> list[dict]:
    """A row a size: `size`, `seconds` by what was timed, `peak_bytes`; or `size` and `skipped`, the reason."""
    rows = []
    for size in PARTS[part][1]:
        last = rows[-1] if rows else None
        expected = last and "seconds" in last and sum(last["seconds"].values()) * size / last["size"]
        if most is not None and size > most:
            rows.append({"size": size, "skipped": "above --most"})
        elif last and "skipped" in last:
            rows.append({"size": size, "skipped": last["skipped"]})
        elif expected and part != "group_size" and expected > budget:
            rows.append({"size": size, "skipped": f"would take longer than {budget:.0f} s"})
        else:
            with tempfile.TemporaryDirectory() as folder:
                if part == "summarize":
                    measure.in_child(__file__, "--one", "plant", size, "--work", folder)
                rows.append({"size": size, **measure.in_child(__file__, "--one", part, size, "--work", folder)})
            print(f"{part} {size:,}: {rows[-1]}", file=sys.stderr)
    return rows


def table(results: dict) -> str:
    """The results as markdown, a table a part."""
    blocks = []
    for part, rows in results["parts"].items():
        counted, _, measured = PARTS[part]
        names = next((list(row["seconds"]) for row in rows if "seconds" in row), [])
        words = [name.removesuffix("_s").replace("_", " ") + ", s" for name in names]
        lines = [f"**{counted}**: {measured}.", "", "| " + " | ".join([counted, *words, "peak memory, GB"]) + " |"]
        lines.append("|" + " --- |" * (len(words) + 2))
        for row in rows:
            if "skipped" in row:
                cells = [row["skipped"], *[""] * len(words)]
            else:
                cells = [measure.three_digits(row["seconds"][name]) for name in names]
                cells.append(f"{row['peak_bytes'] / 1e9:.2f}")
            lines.append("| " + " | ".join([f"{row['size']:,}", *cells]) + " |")
        blocks.append("\n".join(lines))
    hardware, settings = results["hardware"], results["settings"]
    note = f"{hardware['cpu']}, {hardware['cores']} cores, {results['date'][:10]}; each size measured once, in a "
    note += f"process of its own, up to {settings['budget']:.0f} s expected."
    return "\n\n".join([*blocks, note]) + "\n"


def chart(results: dict):
    """Seconds (each part of the time) and memory by size, log-log, a row of panels a part."""
    import altair as alt
    import polars as pl

    from hidden_rule.report.charts.style import finish, panel_title, title

    panels = []
    for part, rows in results["parts"].items():
        measured = [row for row in rows if "seconds" in row]
        if not measured:
            continue
        long = [
            {"size": row["size"], "what": name.removesuffix("_s").replace("_", " "), "value": seconds}
            for row in measured
            for name, seconds in row["seconds"].items()
        ]
        memory = [{"size": row["size"], "what": "memory", "value": row["peak_bytes"] / 1e9} for row in measured]
        pair = []
        for data, heading, unit in ((long, PARTS[part][0], "seconds"), (memory, "", "peak memory, GB")):
            lines = alt.Chart(pl.DataFrame(data)).mark_line(point=True, clip=False)
            axis = alt.Axis(values=[row["size"] for row in measured], format="~s", labelOverlap=True, labelFlush=False)
            x = alt.X("size:Q", title=PARTS[part][0], scale=alt.Scale(type="log", nice=False), axis=axis)
            scale = alt.Scale(type="log") if unit == "seconds" else alt.Scale(zero=True)
            y = alt.Y("value:Q", title=unit, scale=scale, axis=alt.Axis(tickCount=4, labelOverlap=True))
            colour = alt.Color("what:N", title=None) if unit == "seconds" else alt.value("#6B6B6B")
            pair.append(
                lines.encode(x=x, y=y, color=colour).properties(width=260, height=150, title=panel_title(heading))
            )
        panels.append(alt.hconcat(*pair).resolve_scale(color="independent"))
    hardware = results["hardware"]
    circumstances = f"{hardware['cpu']}, {hardware['cores']} cores, {results['date'][:10]}; each size measured once"
    heading = title("What grows: time and memory", circumstances)
    return finish(alt.vconcat(*panels, title=heading).resolve_scale(color="independent"))


def main(arguments=None) -> None:
    """Read the options; run one measurement as a child, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "results/published/growth.json", help=".md, .svg beside")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--most", type=int, help="the largest size of any part")
    parser.add_argument("--budget", type=float, default=900, help="seconds that a size may be expected to take")
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIZE"), help="one measurement, JSON on the last line")
    parser.add_argument("--work", type=Path, help="folder of one measurement")
    options = parser.parse_args(arguments)
    options.output = options.output.resolve()
    os.chdir(ROOT)
    if options.one:
        print(json.dumps(run_one(options.one[0], int(options.one[1]), options.work)))
        return
    results = {**measure.circumstances(), "settings": {"most": options.most, "budget": options.budget}, "parts": {}}
    for part in options.parts:
        results["parts"][part] = run_part(part, options.most, options.budget)
        measure.write_json({**results, "measured": {name: PARTS[name][2] for name in results["parts"]}}, options.output)
    options.output.with_suffix(".md").write_text(table(results), encoding="utf-8")
    chart(results).save(str(options.output.with_suffix(".svg")))
    print(table(results))


if __name__ == "__main__":
    main()
