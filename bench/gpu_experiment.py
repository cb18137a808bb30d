"""The default experiment on this machine's GPU, without Snakemake: `python bench/gpu_experiment.py --output FOLDER`.

First the embedded model's shared-prefix computation is compared with the plain one (`checks.json`): log-probabilities
of the replies, and an SFT batch's loss and gradients. Then each seed's conditions are trained and evaluated by the
pipeline's own functions, a process a seed, several at a time; `free` explores freely from SFT's adapter. The tables are
the pipeline's: `predictions.parquet`, `costs.parquet` and `history.parquet`, with the condition and seed of each row;
`circumstances.json` and `config.json` say where and with which settings. `gpu_publish.py` makes the published tables of
them. Nothing has to be installed but the packages: PYTHONPATH=src is enough.

Processes that share a GPU slow one another down: wall times are those of a shared device unless `--at-once 1`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import bench
import measure
from measure import ROOT

GENTLER = {"learning_rate": 1.0e-4, "entropy_coef": 0.0}  # as config.yaml has it after SFT
CONDITIONS = (  # (name, method, start, decoding, settings that differ from the config's)
    ("baseline", None, None, None, {}),
    ("sft", "sft", None, None, {}),
    ("grpo", "grpo", None, "structured", {}),
    ("sft_then_grpo", "grpo", "sft", "structured", GENTLER),
)
FREE = ("sft_then_grpo_free", "grpo", "sft", "free", {"epochs": 1, **GENTLER})

SMALL = {"train": 64, "validation": 16, "test": 16, "holdout": 16}


def inputs(options):
    """Config and manifest; `--small` draws few rows and explores little."""
    config, manifest = bench.inputs([])
    if options.small:
        config["data"], config["grpo"]["max_new_tokens"] = SMALL, 4
    return config, manifest


def run_condition(condition: tuple, seed: int, setup: dict, work: Path) -> None:
    """Train (unless it has no method) and evaluate one condition; `setup`: config, manifest and data."""
    from hidden_rule.evaluation.evaluate import evaluate
    from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
    from hidden_rule.training.job import TrainingOutput

    name, method, start_from, decoding, changes = condition
    config, data, folder = setup["config"], setup["data"], work / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    job = measure.training_job(
        config, setup["manifest"], data, folder,
        condition=name,
        seed=seed,
        start_from=start_from and work / f"{start_from}-{seed}" / "adapter",
        settings={**config[method], **changes} if method else {},
        output=TrainingOutput(folder / "adapter", folder / "history.parquet", folder / "train.parquet"),
        decoding=decoding or "structured",
    )  # fmt: skip
    if method:
        measure.trainer_of(method)(job)
    evaluate(
        EvaluationJob(
            condition=name,
            seed=seed,
            base=job.base,
            adapter=job.output.adapter if method else None,
            ruleset=job.data.ruleset,
            splits={split: data[split] for split in ("test", "holdout")},
            settings=config["evaluation"],
            output=EvaluationOutput(folder / "predictions.parquet", folder / "evaluate.parquet"),
        )
    )


def run_seed(options, seed: int) -> None:
    """All conditions of one seed, one after another in this process."""
    config, manifest = inputs(options)
    data = {split: options.work / "data" / f"{split}.parquet" for split in ("train", "validation", "test", "holdout")}
    for condition in (*CONDITIONS, *([FREE] if options.free and seed == options.seeds[0] else [])):
        changes = {"epochs": 1} if options.small and condition[1] else {}
        began = time.perf_counter()
        setup = {"config": config, "manifest": manifest, "data": data}
        run_condition((*condition[:4], {**condition[4], **changes}), seed, setup, options.work)
        print(f"{condition[0]} seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def compare_with_plain(options) -> dict:
    """`exactness.compare_computations` with the experiment's data and `--rows` prompts."""
    from exactness import compare_computations

    config, manifest = inputs(options)
    data = bench.draw(config, options.work)
    job = measure.training_job(config, manifest, data, options.work)
    return {"rows": options.rows, **compare_computations(job, options.rows)}


def gather(options) -> None:
    """Write all seeds' tables as three."""
    import polars as pl

    for name, stems in {"predictions": ["predictions"], "costs": ["train", "evaluate"], "history": ["history"]}.items():
        frames = []
        for path in sorted(path for stem in stems for path in options.work.glob(f"*-*/{stem}.parquet")):
            condition, seed = path.parent.name.rsplit("-", 1)
            frame = pl.read_parquet(path)
            if name != "costs":
                frame = frame.with_columns(condition=pl.lit(condition), seed=pl.lit(int(seed)))
            frames.append(frame)
        pl.concat(frames).write_parquet(options.output / f"{name}.parquet")


def main() -> None:
    """Read the options; run one part as a child, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--work", type=Path, help="folder of data and adapters; default OUTPUT/work")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--at-once", type=int, default=5, help="seeds side by side on the GPU")
    parser.add_argument("--rows", type=int, default=32, help="prompts compared with the plain computation")
    parser.add_argument("--free", action="store_true", help="the first seed explores freely from SFT as well")
    parser.add_argument("--small", action="store_true", help="few rows, one pass: does it run?")
    parser.add_argument("--one", help="a seed, or `checks`: one part in this process")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.work = (options.work or options.output / "work").resolve()
    os.chdir(ROOT)
    if options.one == "checks":
        measure.write_json(compare_with_plain(options), options.output / "checks.json")
    elif options.one:
        run_seed(options, int(options.one))
    else:
        run_all(options)


def run_all(options) -> None:
    """Model and data once, then the comparison and every seed in processes of their own."""
    config, _ = inputs(options)
    bench.draw(config, options.work)
    how = {"at_once": options.at_once, "seeds": options.seeds}
    measure.write_json({**measure.circumstances(), **how}, options.output / "circumstances.json")
    measure.write_json(config, options.output / "config.json")
    parts, running = ["checks", *map(str, options.seeds)], []
    failed = []
    while parts or running:
        while parts and len(running) < options.at_once + 1:
            part = parts.pop(0)
            log = open(options.output / f"{part}.log", "w")  # noqa: SIM115 - the process's
            command = [sys.executable, __file__, *sys.argv[1:], "--one", part]
            running.append((part, subprocess.Popen(command, stdout=log, stderr=log)))
        time.sleep(0.2)
        for part, process in [one for one in running if one[1].poll() is not None]:
            running.remove((part, process))
            if process.returncode:
                failed.append(part)
            print(f"{part}: {'failed' if process.returncode else 'done'}", file=sys.stderr, flush=True)
    gather(options)
    for part in failed:
        print((options.output / f"{part}.log").read_text()[-3000:], file=sys.stderr)
    print(json.dumps({"failed": failed}))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
