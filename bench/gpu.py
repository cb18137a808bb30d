"""The 14B study on one GPU, ours beside TRL, without its weights: `python bench/gpu.py`.

A randomly initialised model of Qwen3-14B's exact shape is made on the device in bfloat16, and SFT and GRPO steps are
measured at the settings of experiments/qwen3-14b.yaml, with gradient checkpointing (the study's) and without: tokens a
second, share of the matrix-product peak measured in the same run, peak memory, and the largest micro-batch that fits.
Each side is measured in a process of its own, which makes the model anew.

`results/published/gpu.json` is of one H200, merged from calls on it (docs/gpus.md); `--shape toy` runs the same
code on a CPU in seconds.

What differs from the study: words are tokenized by the embedded model's tokenizer (ids below 49,152: as long a text,
within a few tokens), and a random model does not end its replies, so that free decoding always takes
`grpo.max_new_tokens`. Sides: `ours` is the pipeline's script (GRPO exploring freely, as the study does), `structured`
the same over the exact policy, `trl` TRL's trainer as it comes, which generates for all micro-batches at a time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import ROOT

QWEN3_14B = {  # Qwen/Qwen3-14B, config.json at 40c069824f4251a91eefaf281ebe4c544efd3e18
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}
TOY = QWEN3_14B | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 49152,
}
SHAPES = {"qwen3-14b": QWEN3_14B, "toy": TOY}
SIDES = {"sft": ("ours", "trl"), "grpo": ("ours", "structured", "trl")}


def random_model(shape: str, device):
    """A model of the shape with random bfloat16 weights, made on the device."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return Qwen3ForCausalLM(Qwen3Config(**SHAPES[shape], attn_implementation="sdpa")).eval()
    finally:
        torch.set_default_dtype(default)


def load(shape: str, rows: int, work: Path, side: str) -> measure.Setup:
    """The study's configuration, the tokenizer's manifest, and `rows` rows with a random model of `shape`.

    TRL's side gets the model as transformers and PEFT make it.
    """
    import bench
    from hidden_rule.experiment.config import load_config
    from hidden_rule.kernels.install import install_kernels
    from hidden_rule.models.adapters import add_adapter
    from hidden_rule.models.hardware import default_device
    from hidden_rule.models.loading import load_tokenizer
    from hidden_rule.models.tokens import label_trie
    from hidden_rule.task.ruleset import load_ruleset
    from hidden_rule.training.start import Start, read_tokens

    _, manifest = bench.inputs([])
    config = load_config(["config.yaml", "experiments/qwen3-14b.yaml"])
    config["model"]["chat_template_kwargs"] = {}  # of the model's own template
    ruleset, tokenizer = load_ruleset(config["ruleset"]), load_tokenizer(manifest)
    data = bench.draw({**config, "data": {"train": rows, "validation": 4, "test": 4, "holdout": 4}}, work)
    device, stock = default_device(), side == "trl"
    network = random_model(shape, device)
    if not stock:
        install_kernels(network, device)
    model = add_adapter(network, config["lora"], stock)
    splits = [read_tokens(data[name], ruleset, tokenizer, {}) for name in ("train", "validation")]
    start = Start(model, tokenizer, ruleset, label_trie(tokenizer, ruleset.labels), *splits, device)
    return measure.Setup(config, manifest, start)


def train(setup: measure.Setup, side: str, method: str, settings: dict, updates: int):
    """The meter of `updates` updates by one side."""
    import torch

    torch.manual_seed(0)
    if side == "trl":
        return measure.train_trl(setup, method, settings, updates)
    return measure.train_ours(setup, method, settings, updates, "structured" if side == "structured" else "free")


def clear(device) -> None:
    """Forget what a training left on the GPU, and its peak."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def largest_micro_batch(setup: measure.Setup, side: str, method: str, settings: dict, most: int) -> tuple[int, str]:
    """The largest micro-batch, in prompts, doubled from the settings' one until memory is full, and what ended it."""
    import torch

    fits, size = 0, settings["micro_batch_size"]
    while size <= most:
        clear(setup.start.device)
        try:
            train(setup, side, method, {**settings, "batch_size": size, "micro_batch_size": size}, 1)
        except torch.OutOfMemoryError:
            return fits, "memory"
        fits, size = size, 2 * size
    return fits, "limit"


def measure_one(side: str, method: str, checkpointing: bool, options) -> dict:
    """A row of the results: one side's updates at the study's settings, and its largest micro-batch."""
    import torch

    from hidden_rule.models.hardware import peak_bytes

    rows = max(options.most, 16 * (1 + options.updates))
    setup = load(options.shape, rows, options.work, side)
    start = setup.start
    settings = {**setup.config[method], "epochs": 1, "gradient_checkpointing": checkpointing}
    if options.shape == "toy":
        torch.set_num_threads(1)  # threads only slow products as small as these down
        settings |= {"batch_size": 4, "micro_batch_size": 2}
        if method == "grpo":
            settings |= {"group_size": 2, "max_new_tokens": 3}
    weights = measure.sizes(start.model)
    row = {"method": method, "side": side, "checkpointing": checkpointing, "parameters": weights}
    row |= {name: settings[name] for name in ("batch_size", "micro_batch_size")}
    row |= {"fits": True, "seconds": [], "positions": [], "tokens": [], "flops": [], "peak_bytes": None}
    clear(start.device)
    try:
        gauge = train(setup, side, method, settings, 1 + options.updates)
        row |= {**gauge.steps(checkpointing), "peak_bytes": peak_bytes(start.device)}
    except torch.OutOfMemoryError:
        row["fits"] = False
        settings["micro_batch_size"] = 1
    found = largest_micro_batch(setup, side, method, settings, options.most)
    row["largest_micro_batch"], row["ended_by"] = found
    return row


KERNELS = (  # kinds of GPU kernels by words of their names; the first that fits
    ("attention", ("fmha", "flash", "attention")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "xmma", "splitk", "gemv")),
    ("softmax and sums", ("softmax", "reduce")),
    ("copies and gathers", ("memcpy", "memset", "copy", "index", "gather", "scatter", "cat")),
    ("element-wise", ("elementwise", "foreach", "multi_tensor", "fused_adam")),
)


def profile_one(side: str, method: str, checkpointing: bool, options) -> dict:
    """Milliseconds an update by kind of kernel, the largest kernels, and an update's wall time without the profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    rows = 16 * (1 + options.updates)
    setup = load(options.shape, rows, options.work, side)
    start = setup.start
    settings = {**setup.config[method], "epochs": 1, "gradient_checkpointing": checkpointing}
    if options.shape == "toy":
        settings |= {"batch_size": 4, "micro_batch_size": 2}
    wall = statistics.median(train(setup, side, method, settings, 1 + options.updates).steps(checkpointing)["seconds"])
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        train(setup, side, method, settings, 2)
    on_gpu = start.device.type == "cuda"
    times = {}
    for event in profiler.key_averages():
        kernel = event.device_type == torch.autograd.DeviceType.CUDA if on_gpu else True
        ms = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 2e3
        if kernel and ms and not getattr(event, "is_user_annotation", False):
            times[event.key] = times.get(event.key, 0.0) + ms
    kinds = dict.fromkeys([kind for kind, _ in KERNELS] + ["rest"], 0.0)
    for name, ms in times.items():
        kinds[next((kind for kind, words in KERNELS if any(w in name.lower() for w in words)), "rest")] += ms
    largest = sorted(times.items(), key=lambda item: -item[1])[:40]
    result = {"side": side, "method": method, "checkpointing": checkpointing, "wall_ms": 1e3 * wall}
    return result | {"kinds_ms": kinds, "largest_ms": [[name[:160], ms] for name, ms in largest]}


def measure_peak(options) -> dict:
    """FLOP/s of bfloat16 matrix products of the shape, by shape."""
    import torch
    from transformers import Qwen3Config

    from hidden_rule.models.hardware import default_device

    device = default_device()
    rows = 8192 if device.type == "cuda" else 256
    return measure.matmul_peak(Qwen3Config(**SHAPES[options.shape]), torch.bfloat16, device, rows)


def table(results: dict) -> str:
    """The results as markdown."""
    peak = max(results["peak"].values())
    lines = [
        "| method | side | checkpointing | micro-batch | s a step | tokens/s | computed/s | TFLOP/s (share of peak) "
        "| peak memory, GB | largest micro-batch |",
        "|" + " --- |" * 10,
    ]
    for row in results["rows"]:
        cells = [row["method"], row["side"], "yes" if row["checkpointing"] else "no", row["micro_batch_size"]]
        if row["fits"]:
            seconds = statistics.median(row["seconds"])
            rate = sum(row["flops"]) / sum(row["seconds"])
            cells += [f"{seconds:.3g}"]
            cells += [f"{sum(row[name]) / sum(row['seconds']):,.0f}" for name in ("tokens", "positions")]
            cells += [f"{rate / 1e12:.3g} ({rate / peak:.0%})", f"{row['peak_bytes'] / 1e9:.1f}"]
        else:
            cells += ["does not fit", "", "", "", ""]
        more = " or more" if row["ended_by"] == "limit" else ""
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['largest_micro_batch']}{more}"])) + " |")
    where = ", ".join(gpu["name"] for gpu in results["hardware"]["gpus"]) or results["hardware"]["cpu"]
    note = f"{where}, {results['date'][:10]}; {results['shape']}, random weights; median of {results['updates']} steps "
    note += f"after one; measured peak of a matrix product {peak / 1e12:.3g} TFLOP/s. Tokens/s are the rows' own, "
    note += "computed/s what the model was given after sharing and with padding. Micro-batches are in prompts."
    return "\n".join([*lines, "", note]) + "\n"


def run_all(options) -> dict:
    """Every side, method and kind of checkpointing, each in a process of its own."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        passed = ["--shape", options.shape, "--updates", options.updates, "--most", options.most, "--work", work]
        results = {**measure.circumstances(), "shape": options.shape, "config": SHAPES[options.shape]}
        results |= {"updates": options.updates, "formula": measure.__doc__}
        results["peak"] = measure.in_child(__file__, *passed, "--one", "peak", "-", "-")
        results |= {"rows": [], "not_measured": []}
        for checkpointing in options.checkpointing:
            for method in options.methods:
                for side in SIDES[method]:
                    one = (side, method, checkpointing)
                    if options.sides and side not in options.sides:
                        continue
                    if options.minutes and time.perf_counter() - began > 60 * options.minutes:
                        results["not_measured"].append(one)
                        continue
                    row = measure.in_child(__file__, *passed, "--one", *one)
                    results["rows"].append(row)
                    print(f"{' '.join(one)}: {row['seconds']}", file=sys.stderr, flush=True)
                    measure.write_json(results, options.output)
        if options.profile:
            results["profile"] = measure.in_child(
                __file__, *passed, "--one", "profile", "sft", options.checkpointing[0]
            )
            measure.write_json(results, options.output)
    return results


def main(arguments=None) -> None:
    """Read the options; run one measurement as a child, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen3-14b")
    parser.add_argument("--output", type=Path, default=ROOT / "results/published/gpu.json")
    parser.add_argument("--methods", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--checkpointing", nargs="+", choices=["yes", "no"], default=["yes", "no"])
    parser.add_argument("--updates", type=int, default=5, help="measured updates, after one that warms up")
    parser.add_argument("--most", type=int, default=512, help="the largest micro-batch that is tried, in prompts")
    parser.add_argument("--sides", nargs="+", choices=["ours", "structured", "trl"], help="default: all")
    parser.add_argument("--minutes", type=float, default=0, help="start no measurement after so many; 0: no limit")
    parser.add_argument("--profile", action="store_true", help="an SFT update's time by kind of kernel too")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "METHOD", "CHECKPOINTING"), help="one measurement, as JSON")
    parser.add_argument("--work", type=Path, help="folder of one measurement")
    options = parser.parse_args(arguments)
    options.output = options.output.resolve()
    os.chdir(ROOT)
    if options.one:
        side, method, checkpointing = options.one
        if side == "peak":
            one = measure_peak(options)
        elif side == "profile":
            one = profile_one("ours", method, checkpointing == "yes", options)
        else:
            one = measure_one(side, method, checkpointing == "yes", options)
        print(json.dumps(one))
        return
    print(table(run_all(options)))


if __name__ == "__main__":
    main()
