"""How fast the pipeline is beside plain TRL: `make bench`, or `python bench/bench.py --help`.

Both sides have the same model, adapter, data, batch, dtype and optimizer, and take turns (ours,
TRL, ours, TRL …), each measurement in a process of its own. Ours is the pipeline's own script. TRL's side is its
trainer as it comes, with the model as transformers and PEFT make it; it is given the same tokenized rows and the same
loss on the reply alone. Its GRPO generates freely; a step of it takes fewer prompts than ours, and times are a prompt.
The first updates of every process warm up and are not counted: one of GRPO, four of SFT, until the heap has grown to
what a step needs. Of the next ones each is (`UPDATES`). What ours computes once for all training rows, before the first
step, is part of a step's time: its rows' share, by the number of passes.
The FLOP formula stands in src/hidden_rule/core/flops.py.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import ROOT

GRPO_PROMPTS = 16
SFT_ROWS = {"sft": 16, "sft4": 4}
ITEMS = {  # name: (what, unit)
    "sft": ("SFT, a step of 16 rows", "s a step"),
    "sft4": ("SFT, a step of 4 rows, as in the default experiment", "s a step"),
    "grpo8": ("GRPO, G = 8", "s a prompt"),
    "grpo16": ("GRPO, G = 16", "s a prompt"),
    "grpo64": ("GRPO, G = 64", "s a prompt"),
    "evaluate": ("evaluation against `generate`, at most {max_new_tokens} new tokens", "s per 1,000"),
    "evaluate_short": ("evaluation against `generate`, at most as many new tokens as the longest reply", "s per 1,000"),
}
UPDATES = {  # of a process: those that warm up, and those that are measured
    ("sft", "ours"): (4, 6),
    ("sft", "trl"): (4, 2),
    ("grpo", "ours"): (1, 3),
    ("grpo", "trl"): (1, 1),
}
KINDS = (  # of torch's operators, by name, for the breakdown; the first that fits
    ("attention", ("bmm", "softmax", "attention", "sdpa")),
    ("matrix products", ("aten::mm", "addmm", "linear", "matmul")),
    ("copies", ("copy", "clone", "cat", "index", "gather", "scatter", "contiguous", "slice", "select", "fill", "zero")),
    ("element-wise", ("mul", "add", "sub", "div", "neg", "silu", "sigmoid", "pow", "rsqrt", "mean", "sum", "exp",
                      "log", "cos", "sin", "where", "sqrt", "lerp", "masked", "threshold")),
)  # fmt: skip


def inputs(configfiles: list):
    """Config and the model's manifest, which is prepared where missing."""
    from hidden_rule.experiment.conditions import model_slug
    from hidden_rule.experiment.config import load_config
    from hidden_rule.models.prepare import prepare_model

    config = load_config(["config.yaml", *configfiles])
    manifest = Path("results/models") / model_slug(config["model"]) / "manifest.json"
    if not manifest.exists():
        prepare_model({key: config["model"][key] for key in ("id", "revision", "source")}, manifest)
    return config, manifest


def draw(config: dict, work: Path) -> dict:
    """Paths of the config's splits below `work`, drawn where missing."""
    from hidden_rule.task.build_dataset import build_dataset

    data = {split: work / "data" / f"{split}.parquet" for split in ("train", "validation", "test", "holdout")}
    if not all(path.exists() for path in data.values()):
        with contextlib.redirect_stdout(sys.stderr):
            build_dataset(config["ruleset"], {split: config["data"][split] for split in data}, 0, data)
    return data


def load(work: Path, configfiles: list, arm: str = "ours") -> measure.Setup:
    """The benchmark's model and data; validation is the holdout split.

    The arm "trl" gets the model as transformers and PEFT make it.
    """
    from hidden_rule.training.start import load_start

    config, manifest = inputs(configfiles)
    data = draw(config, work)
    job = measure.training_job(config, manifest, {"train": data["train"], "validation": data["holdout"]}, work)
    return measure.Setup(config, manifest, load_start(job, stock=arm == "trl"))


def measure_training(name: str, arm: str, options) -> dict:
    """One process's updates: seconds a unit (a step, or a prompt of GRPO), positions, FLOPs, memory."""
    from hidden_rule.models.hardware import peak_bytes

    setup = load(options.work, options.configfile, arm)
    method = "sft" if name in SFT_ROWS else "grpo"
    config = setup.config
    settings = {**config[method], "epochs": 1}
    if method == "sft":
        prompts = SFT_ROWS[name]
    else:
        settings["group_size"] = int(name.removeprefix("grpo"))
        prompts = GRPO_PROMPTS if arm == "ours" else max(1, options.peer_rows // settings["group_size"])
    settings |= {"batch_size": prompts, "micro_batch_size": prompts}
    n_warm, n_measured = (1, options.updates) if options.updates else UPDATES[method, arm]
    updates = n_warm + n_measured
    if arm == "trl" or options.short:
        setup = setup.shortened(prompts * updates)
    n_kept = len(setup.start.train.prompts)
    if arm == "ours":
        gauge = measure.train_ours(setup, method, settings, updates)
    else:
        setup.start.model.get_base_model().set_attn_implementation(options.trl_attention)
        gauge = measure.train_trl(setup, method, settings, updates)
    steps = {name: values[-n_measured:] for name, values in gauge.steps(settings["gradient_checkpointing"]).items()}
    units = 1 if method == "sft" else prompts
    once_s = gauge.kept_s * (prompts / n_kept) / config[method]["epochs"]  # a step's part of what is computed once
    return {
        "unit_seconds": [(seconds + once_s) / units for seconds in steps["seconds"]],
        "unit_positions": [positions / units for positions in steps["positions"]],
        "flops_per_s": [f / s for f, s in zip(steps["flops"], steps["seconds"], strict=True)],
        "n_prompts": prompts,
        "peak_bytes": peak_bytes(setup.start.device),
    }


def measure_evaluation(name: str, arm: str, options) -> dict:
    """One process's evaluation of a subset, given per 1,000 applications: structured (ours), or by `generate`."""
    from hidden_rule.models.decoding import label_log_probs
    from hidden_rule.models.hardware import peak_bytes

    setup = load(options.work, options.configfile, arm)
    config, start = setup.config, setup.start
    batch, prompts = config["evaluation"]["batch_size"], start.validation.prompts
    rows = options.evaluation_rows if arm == "ours" else options.peer_evaluation_rows
    longest = max(map(len, start.trie.replies))
    n_new = longest if name == "evaluate_short" else config["evaluation"]["max_new_tokens"]
    gauge = measure.meter(start.model, 0, fused=False)
    model = start.model.get_base_model().eval()
    if arm == "trl":
        model.set_attn_implementation(options.trl_attention)

    def answer(rows: list) -> None:
        if arm == "ours":
            label_log_probs(model, start.trie, rows, batch)
        else:
            generate_in_order(model, start, rows, batch, n_new)

    answer(prompts[-batch:] if arm == "ours" else prompts[-4:])  # warms up
    before, computed, began = gauge.counts, gauge.computed, time.perf_counter()
    answer(prompts[:rows])
    seconds, counts = time.perf_counter() - began, gauge.counts - before
    return {
        "unit_seconds": [1000 * seconds / rows],
        "unit_positions": [1000 * counts.positions / rows],
        "flops_per_s": [measure.flops(gauge.computed - computed, **gauge.sizes) / seconds],
        "n_prompts": rows,
        "peak_bytes": peak_bytes(setup.start.device),
    }


def generate_in_order(model, start, prompts: list, batch: int, n_new: int) -> list:
    """What `generate` leads to, batch by batch: greedy replies, parsed."""
    import torch

    from hidden_rule.task.replies import parse_reply

    decided = []
    for i in range(0, len(prompts), batch):
        rows = {"input_ids": prompts[i : i + batch]}
        inputs = start.tokenizer.pad(rows, padding_side="left", return_tensors="pt").to(start.device)
        with torch.no_grad():
            tokens = model.generate(
                **inputs, max_new_tokens=n_new, do_sample=False, pad_token_id=start.tokenizer.pad_token_id
            )
        replies = start.tokenizer.batch_decode(tokens[:, inputs["input_ids"].size(1) :], skip_special_tokens=True)
        decided += [parse_reply(reply, start.ruleset.labels) for reply in replies]
    return decided


def measure_peak(options) -> dict:
    """FLOP/s of the model's matrix products by shape, and its dtype."""
    start = load(options.work, options.configfile).start
    model = start.model.get_base_model()
    rows = 8192 if start.device.type == "cuda" else 1024
    return {"dtype": str(model.dtype), "by_shape": measure.matmul_peak(model.config, model.dtype, start.device, rows)}


def profile_sft(options) -> dict:
    """Shares of an SFT update's time by kind of operator (self time, the profiler's own cost included)."""
    from torch.profiler import profile

    setup = load(options.work, options.configfile)
    rows = SFT_ROWS["sft"]
    settings = {**setup.config["sft"], "epochs": 1, "batch_size": rows, "micro_batch_size": rows}
    setup = setup.shortened(2 * rows)
    with profile() as profiler:
        measure.train_ours(setup, "sft", settings, 2)
    seconds = dict.fromkeys([kind for kind, _ in KINDS] + ["rest"], 0.0)
    for event in profiler.key_averages():
        if event.key.startswith(("aten::", "autograd::")) or event.self_device_time_total:
            kind = next((kind for kind, words in KINDS if any(word in event.key for word in words)), "rest")
            seconds[kind] += (event.self_device_time_total or event.self_cpu_time_total) / 1e6
    return {kind: value / sum(seconds.values()) for kind, value in seconds.items()}


def measure_experiment(keep: bool) -> dict:
    """The whole default experiment in a fresh copy of the tree: wall seconds, and the share outside its real work.

    `keep`: its results become the working tree's.
    """
    import polars as pl

    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        began, first = time.perf_counter(), time.time()
        done = run_copy(Path(folder), "--cores", "all", "--resources", "gpu=2")  # as `make results` on a CPU
        wall = time.perf_counter() - began
        if done.returncode != 0:
            sys.exit(done.stderr[-4000:])
        files = [path for path in Path(folder).rglob("*cost.parquet") if "models" not in path.parts]
        costs = {path: pl.read_parquet(path).row(0, named=True) for path in files}
        if keep:
            shutil.rmtree(ROOT / "results/laptop", ignore_errors=True)
            shutil.copytree(Path(folder) / "results/laptop", ROOT / "results/laptop")
        spans = sorted((path.stat().st_mtime - cost["wall_s"], path.stat().st_mtime) for path, cost in costs.items())
    busy, end = 0.0, first
    for low, high in spans:  # jobs may run side by side
        busy, end = busy + max(0.0, high - max(low, end)), max(end, high)
    return {"wall_s": wall, "share_outside_steps": 1 - busy / wall, "jobs": list(costs.values())}


def run_copy(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Snakemake in a copy of the tree, with the package that lies there."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def copy_tree(folder: Path) -> None:
    """Clone the repository, or, where it has changes, copy the tree and commit that: a run's record names a commit."""
    if not subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT):
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        return
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a copy"]):
        subprocess.run(git + command, cwd=folder, check=True)


def numbers(results: dict, name: str, arm: str, key: str) -> list[float]:
    """Every single measurement of an item's arm."""
    runs = results["items"][name][arm]
    return [value for run in runs for value in (run[key] if isinstance(run[key], list) else [run[key]])]


def ratios(results: dict, name: str) -> list[float]:
    """TRL's time by ours in each turn."""
    medians = {
        arm: [statistics.median(run["unit_seconds"]) for run in results["items"][name][arm]] for arm in ("ours", "trl")
    }
    return [theirs / ours for ours, theirs in zip(medians["ours"], medians["trl"], strict=True)]


def table(results: dict) -> str:
    """The results as a markdown table, and under it what the figures are."""
    peak = results["peak"]["flops_per_s"]
    lines = [
        "| | | ours | plain TRL | times faster | tokens computed | TFLOP/s (share of peak) | peak memory, GB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def spread(values, show=measure.three_digits) -> str:
        middle, low, high = map(show, (statistics.median(values), min(values), max(values)))
        return f"{middle} ({low}–{high})"

    def both(name, key, show) -> str:
        return " / ".join(show(statistics.median(numbers(results, name, arm, key))) for arm in ("ours", "trl"))

    for name in results["items"]:
        what, unit = ITEMS[name]
        cells = [what.format(**results["settings"]), unit]
        cells += [spread(numbers(results, name, arm, "unit_seconds")) for arm in ("ours", "trl")]
        cells += [
            f"**{spread(ratios(results, name))}**",
            both(name, "unit_positions", lambda x: f"{x:,.0f}"),
            both(name, "flops_per_s", lambda x: f"{x / 1e12:.2f} ({x / peak:.0%})"),
            both(name, "peak_bytes", lambda x: f"{x / 1e9:.2f}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    later = ""
    if "experiment" in results:
        walls = [run["wall_s"] / 60 for run in results["experiment"]]
        outside = statistics.median(run["share_outside_steps"] for run in results["experiment"])
        peaks = [max(job["peak_bytes"] for job in run["jobs"]) / 1e9 for run in results["experiment"]]
        lines.append(
            f"| the whole default experiment | min | {spread(walls, '{:.1f}'.format)} | | | | | {max(peaks):.2f} |"
        )
        lines.append(f"| of it, outside training and evaluation | % | {100 * outside:.0f} | | | | | |")
        at = {run["git"]["commit"][:12] for run in results["experiment"] if "git" in run}
        later = f" The whole experiment: two jobs at a time, at commit `{', '.join(sorted(at))}`." if at else ""
    settings, hardware = results["settings"], results["hardware"]
    gpus = ", ".join(gpu["name"] for gpu in hardware["gpus"])
    n_trl = {name: results["items"][name]["trl"][0]["n_prompts"] for name in results["items"]}
    subset = "; ".join(f"{name} {n}" for name, n in n_trl.items() if name not in SFT_ROWS)
    versions = ", ".join(f"{name} {results['versions'][name]}" for name in ("trl", "transformers", "torch"))
    lines += [
        "",
        f"Median (lowest–highest) of {settings['repeats']} runs per side, in turns; two figures: ours / TRL's. "
        f"{gpus or hardware['cpu']}, {settings['threads']} threads, {results['peak']['dtype']}, measured peak of a "
        f"matrix product {peak / 1e12:.2f} TFLOP/s; {versions}; {results['date'][:10]}. "
        f"Prompts measured on TRL's side, times scaled: {subset or 'none'}. Both sides use the untrained model with "
        f"LoRA adapters, which generates up to the token limit.{later}",
    ]
    if "profile" in results:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in results["profile"].items())
        lines.append(f"An SFT step's time by kind of operator: {shares}.")
    return "\n".join(lines) + "\n"


def run_all(options) -> dict:
    """Every measurement, turn by turn: items and sides take turns."""
    passed = ["--work", options.work, "--threads", options.threads, "--trl-attention", options.trl_attention]
    passed += ["--peer-rows", options.peer_rows, "--evaluation-rows", options.evaluation_rows]
    passed += ["--peer-evaluation-rows", options.peer_evaluation_rows, "--updates", options.updates]
    passed += ["--short"] * options.short
    for file in options.configfile:
        passed += ["--configfile", file]

    def child(*one) -> dict:
        began = time.perf_counter()
        result = measure.in_child(__file__, *passed, "--one", *one)
        print(f"{' '.join(one)}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        return result

    from hidden_rule.experiment.config import load_config

    if not options.items:  # whole runs alone, for results that are there
        results = json.loads(options.output.read_text(encoding="utf-8"))
        side, git = "keep" if options.keep else "ours", measure.circumstances()["git"]
        results["experiment"] = [child("experiment", side) | {"git": git} for _ in range(options.experiment)]
        return results
    config = load_config(["config.yaml", *options.configfile])
    keys = ("repeats", "threads", "trl_attention", "peer_rows", "evaluation_rows", "peer_evaluation_rows", "updates")
    results = measure.circumstances()
    results["settings"] = {key: getattr(options, key) for key in keys}
    results["settings"] |= {name: config[name] for name in ("model", "lora", "sft", "grpo")}
    results["settings"]["max_new_tokens"] = config["evaluation"]["max_new_tokens"]
    results["formula"] = measure.__doc__
    peaks = [child("peak", "ours")]
    results["items"] = {name: {"ours": [], "trl": []} for name in options.items}
    for _ in range(options.repeats):  # all items in each turn: they are compared with each other too
        for name in options.items:
            for arm in ("ours", "trl"):
                results["items"][name][arm].append(child(name, arm))
        peaks.append(child("peak", "ours"))
        measure.write_json(results, options.output.with_suffix(".part.json"))  # hours may be lost otherwise
    best = max(value for peak in peaks for value in peak["by_shape"].values())
    results["peak"] = {"flops_per_s": best, "dtype": peaks[0]["dtype"], "runs": peaks}
    if options.profile:
        results["profile"] = child("profile", "ours")
    if options.experiment:
        side = "keep" if options.keep else "ours"
        results["experiment"] = [child("experiment", side) for _ in range(options.experiment)]
    return results


def main(arguments=None) -> None:
    """Read the options; run one measurement as a child, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "results/published/bench.json")
    parser.add_argument("--work", type=Path, default=ROOT / "results/bench", help="where the data is kept")
    parser.add_argument("--items", nargs="*", choices=list(ITEMS), default=list(ITEMS), help="none: see --experiment")
    parser.add_argument("--repeats", type=int, default=5, help="turns a side")
    parser.add_argument(
        "--updates", type=int, default=0, help="measured updates a process, after one; 0: as UPDATES has it"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trl-attention", default="sdpa", help="of TRL's side; sdpa is transformers' default")
    parser.add_argument("--peer-rows", type=int, default=16, help="completions a GRPO step of TRL's, at least a group")
    parser.add_argument("--evaluation-rows", type=int, default=512)
    parser.add_argument("--peer-evaluation-rows", type=int, default=64)
    parser.add_argument("--short", action="store_true", help="compute once for the measured steps' rows alone, not all")
    parser.add_argument("--configfile", action="append", default=[], help="overlay of config.yaml")
    parser.add_argument("--quick", action="store_true", help="one turn of the smallest measurements: a test")
    parser.add_argument("--profile", action="store_true", help="add the breakdown of an SFT step")
    of_runs = "whole runs to time; without items they replace those of --output"
    parser.add_argument("--experiment", type=int, nargs="?", const=1, default=0, help=of_runs)
    parser.add_argument("--keep", action="store_true", help="results/laptop becomes the last whole run's")
    parser.add_argument("--one", nargs=2, metavar=("ITEM", "SIDE"), help="one measurement, JSON on the last line")
    options = parser.parse_args(arguments)
    options.work, options.output = options.work.resolve(), options.output.resolve()
    options.configfile = [str(Path(file).resolve()) for file in options.configfile]
    os.chdir(ROOT)  # what config.yaml names lies below it
    if options.quick:
        options.repeats, options.updates, options.peer_rows, options.short = 1, 1, 8, True
        options.evaluation_rows, options.peer_evaluation_rows = 32, 4
        options.items = [name for name in options.items if name not in ("grpo16", "grpo64")]
    if options.one:
        print(json.dumps(run_one(*options.one, options)))
        return
    results = run_all(options)
    measure.write_json(results, options.output)
    options.output.with_suffix(".part.json").unlink(missing_ok=True)
    print(table(results))


def run_one(name: str, arm: str, options) -> dict:
    """One measurement in this process."""
    if name == "experiment":
        return measure_experiment(arm == "keep")
    import torch

    torch.set_num_threads(options.threads)
    if name == "peak":
        return measure_peak(options)
    if name == "profile":
        return profile_sft(options)
    return (measure_evaluation if name.startswith("evaluate") else measure_training)(name, arm, options)


if __name__ == "__main__":
    main()
