"""What every benchmark uses: ours and plain TRL under the same settings; FLOPs as `hidden_rule.core.flops` has them."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hidden_rule.core.flops import Counts, flops  # noqa: F401 - benchmarks take them from here

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "polars", "snakemake")


def sizes(model) -> dict[str, int]:
    """N, L and H of a PEFT model, as `flops` takes them."""
    from hidden_rule.kernels.meter import sizes_of  # imports torch

    return sizes_of(model)


def meter(model, stop_after: int, fused: bool):
    """A `Meter` of a PEFT model; it ends a training after `stop_after` updates.

    `fused`: TRL's own forward applies the output layer's weights without calling the layer, so that labels are counted.
    """
    from meter import Meter  # imports torch

    return Meter(model, stop_after, fused)


@dataclass(frozen=True)
class Setup:
    """What a benchmark trains or evaluates: the configuration, the base model's manifest, and a loaded `Start`."""

    config: dict
    manifest: Path
    start: object

    def shortened(self, rows: int) -> "Setup":
        """The same with the first `rows` training rows alone."""
        return replace(self, start=replace(self.start, train=self.start.train.head(rows)))


def training_job(config: dict, manifest, data: dict, folder: Path, **changes):
    """The job of a benchmark's training: splits by their names in `data`, results in `folder`."""
    from hidden_rule.models.base import BaseModel
    from hidden_rule.training.job import TrainingData, TrainingJob, TrainingOutput

    job = TrainingJob(
        condition="bench",
        seed=0,
        base=BaseModel.of(manifest, config["model"]),
        start_from=None,
        lora=config["lora"],
        settings={},
        data=TrainingData(config["ruleset"], data.get("train"), data.get("validation")),
        output=TrainingOutput(*(folder / name for name in ("adapter", "history.parquet", "cost.parquet"))),
    )
    return replace(job, **changes)


def train_ours(setup: Setup, method: str, settings: dict, stop_after: int, decoding: str = "structured"):
    """The meter of a training by the pipeline itself, from the setup's start, without its validation passes."""
    from hidden_rule.training.watcher import Watcher

    start = replace(setup.start, validation=setup.start.validation.head(1))
    gauge = meter(start.model, stop_after, fused=start.device.type == "cuda")  # `shared_prefix.score_tokens`

    class TimedWatcher(Watcher):
        def validate(self, *args, **kwargs):
            pass

        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            gauge.on_step_end(args, state, control)

        def on_train_begin(self, args, state, control, **kwargs):
            gauge.kept_s = self.spending.meter.laps.seconds  # all that was timed so far
            super().on_train_begin(args, state, control, **kwargs)

        def on_log(self, args, state, control, logs=None, **kwargs):
            super().on_log(args, state, control, logs=logs, **kwargs)
            gauge.on_log(args, state, control, logs=logs)

    with tempfile.TemporaryDirectory() as folder:
        job = training_job(setup.config, setup.manifest, {}, Path(folder), settings=settings, decoding=decoding)
        trainer_of(method)(job, start, TimedWatcher)
    return gauge


def trainer_of(method: str):
    """The pipeline's function that trains by a method."""
    if method == "sft":
        from hidden_rule.training.sft import train_sft

        return train_sft
    from hidden_rule.training.grpo import train_grpo

    return train_grpo


def train_trl(setup: Setup, method: str, settings: dict, stop_after: int):
    """The meter of the same training by TRL's own trainers as they are; GRPO generates freely."""
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    from hidden_rule.task.rewards import make_reward_function
    from hidden_rule.training.arguments import common_arguments
    from hidden_rule.training.grpo import prompts_with_labels
    from hidden_rule.training.sft import labelled_tokens

    start = setup.start
    gauge = meter(start.model, stop_after, fused=True)
    with tempfile.TemporaryDirectory() as scratch:
        job = training_job(setup.config, setup.manifest, {}, Path(scratch), settings=settings)
        arguments = common_arguments(job, scratch, start.device)
        common = {"model": start.model, "processing_class": start.tokenizer, "callbacks": [gauge]}
        if method == "sft":
            arguments |= {"per_device_train_batch_size": settings["micro_batch_size"], "max_length": None}
            trainer = SFTTrainer(args=SFTConfig(**arguments), train_dataset=labelled_tokens(start), **common)
        else:
            arguments |= {
                "per_device_train_batch_size": settings["micro_batch_size"] * settings["group_size"],
                "num_generations": settings["group_size"],
                "max_completion_length": settings["max_new_tokens"],
                "chat_template_kwargs": job.base.chat_template_kwargs,
                **{name: settings[name] for name in ("temperature", "beta", "loss_type", "scale_rewards")},
            }
            rows = prompts_with_labels(start, "free")
            reward = make_reward_function(start.ruleset.labels, settings["reward"])
            trainer = GRPOTrainer(args=GRPOConfig(**arguments), reward_funcs=reward, train_dataset=rows, **common)
        trainer.train()
    return gauge


def matmul_peak(network_config, dtype, device, rows: int) -> dict[str, float]:
    """FLOP/s of `rows` hidden states times each of a layer's weight shapes: the best of some tries, by shape."""
    import torch

    hidden, wide = network_config.hidden_size, network_config.intermediate_size
    result = {}
    for n_in, n_out in {(hidden, hidden), (hidden, wide), (wide, hidden)}:
        x = torch.randn(rows, n_in, device=device, dtype=dtype)
        weight = torch.randn(n_out, n_in, device=device, dtype=dtype)
        best, until = float("inf"), time.perf_counter() + 1.0
        while time.perf_counter() < until:
            began = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
        result[f"{rows}x{n_in}x{n_out}"] = 2 * rows * n_in * n_out / best
    return result


def in_child(script, *arguments) -> dict:
    """What `script` prints as its last line, JSON, in a process of its own: memory and caches are not shared."""
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def circumstances() -> dict:
    """Date, commit, hardware and versions that figures belong to."""
    from hidden_rule.report import provenance

    commit = os.environ.get("GIT_COMMIT")  # of a copy of the tree without its history
    return {
        "date": provenance.creation_time(),
        "git": {"commit": commit, "dirty": False} if commit else provenance.git_state(ROOT),
        "hardware": provenance.hardware(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)},
        },
    }


def three_digits(value: float) -> str:
    """A figure in three significant digits, and no exponent: `0.0510`, `120`, `1,470`."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else f"{rounded:#.3g}".rstrip(".")


def write_json(value, path) -> None:
    """Write `value` as indented JSON, folders made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
