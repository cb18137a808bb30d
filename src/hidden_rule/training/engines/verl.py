"""GRPO and PPO by verl: its own code, started as its command is, with the changes of `verl_plugin.py`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from safetensors.torch import save_file

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json, write_text
from hidden_rule.models.adapters import ADAPTER
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.models.tokens import turn_of
from hidden_rule.training.engines.adapters import check_trained, start_weights
from hidden_rule.training.engines.openrlhf_replies import ROLLOUT, Replies
from hidden_rule.training.engines.processes import Processes
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.ray_head import RayPlan, start_head
from hidden_rule.training.engines.run import EngineRun, Logged
from hidden_rule.training.engines.verl_checkpoint import adapter_weights, moved_base_weight, read_checkpoint
from hidden_rule.training.engines.verl_command import computed, ranks, train_command
from hidden_rule.training.engines.verl_names import CPU, SEED

if TYPE_CHECKING:  # what verl's processes load: results depend on it (core/sources.py)
    from hidden_rule.training.engines import verl_door, verl_start  # noqa: F401

ENVIRONMENT = ENVIRONMENTS["verl"]
CPUS = 16  # that Ray hands out to its actors, each of which asks for one and takes what it gets
MOST_OFF = {"float32": 1e-4, "bfloat16": 0.3, "float16": 0.1}  # between probabilities of rollout and trainer, by type
OFF = "training/rollout_probs_diff_max"
METRICS = {  # verl's names of what it logs -> ours
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/lr": "learning_rate",
    "actor/entropy_loss": "entropy",
    "actor/kl_loss": "kl",
    "critic/vf_loss": "value_loss",
    "critic/values/mean": "value",
    "critic/vf_explained_var": "explained_variance",
}


class Verl:
    """The engine, see `run.Engine`."""

    name = "verl"

    def train(self, run: EngineRun, processes: Processes, look: Callable[[], None]) -> int:
        prepare(run)
        variables = variables_of(run)
        address = start_head(processes, RayPlan(ENVIRONMENT.python, CPUS, ranks(run)), run.folder, variables)
        driver = processes.start(train_command(run, ENVIRONMENT.python), {**variables, "RAY_ADDRESS": address})
        return processes.wait(driver, look)

    def saved(self, run: EngineRun) -> int:
        try:
            return int((run.checkpoints / "latest_checkpointed_iteration.txt").read_text())
        except (OSError, ValueError):
            return 0

    def logged(self, run: EngineRun) -> list[Logged]:
        found, unit = {}, read_json(run.door)["unit"]
        for step, numbers in read_logs(run).items():
            for theirs, ours in METRICS.items():
                if numbers.get(theirs) is not None:
                    size = unit if ours == "value" else 1.0
                    found[step, ours] = Logged(step, ours, size * float(numbers[theirs]))
            if run.device == "cuda" and numbers.get("perf/max_memory_allocated_gb"):
                peak = float(numbers["perf/max_memory_allocated_gb"]) * 2**30
                found[step, "peak_bytes"] = Logged(step, "peak_bytes", peak)
        return list(found.values())

    def adapter(self, run: EngineRun) -> Path:
        check_rollout_policy(run)
        checkpoint = run.checkpoints / f"global_step_{run.n_steps}" / "actor"
        weights = read_checkpoint(checkpoint)
        if moved := moved_base_weight(weights, run.model):
            raise UserError(checkpoint, moved, "moved in training, and is the base model's", "the log says more")
        after = {name: weight.float() for name, weight in adapter_weights(weights).items()}
        check_trained(start_weights(run.start), after, self.name, checkpoint)
        folder = run.folder / "adapter"
        folder.mkdir(exist_ok=True)
        save_file(after, folder / ADAPTER[0], metadata={"format": "pt"})
        write_text((run.start / ADAPTER[1]).read_text(encoding="utf-8"), folder / ADAPTER[1])
        return folder


def prepare(run: EngineRun) -> None:
    """Write what verl reads beside the run's own files."""
    rows = read_prompts(run.prompts)
    frame = pl.DataFrame(
        {
            "data_source": ["hidden_rule"] * len(rows),
            "prompt": [row["messages"] for row in rows],
            "reward_model": [{"style": "rule", "ground_truth": row["label"]} for row in rows],
            "extra_info": [{"index": row["place"]} for row in rows],
        }
    )
    frame.write_parquet(run.folder / "verl_train.parquet")
    frame.head(1).write_parquet(run.folder / "verl_val.parquet")  # verl opens one, and is told not to validate
    tokenizer = load_tokenizer(run.job.base.manifest, run.job.base.chat_template_kwargs)
    stops = read_json(run.model / "generation_config.json")["eos_token_id"]
    replies = Replies(run.job.seed, stops if isinstance(stops, list) else [stops], turn_of(tokenizer).closing.strip())
    write_text(json.dumps(replies.as_json()), run.folder / "replies.json")


def variables_of(run: EngineRun) -> dict[str, str]:
    """The environment of all processes of a run."""
    on_cpu = {CPU: "1", "OMP_NUM_THREADS": str(max(1, run.place.threads_each))}
    return {
        **run.variables,
        ROLLOUT: str(run.folder / "replies.json"),
        SEED: str(run.job.seed),
        "VERL_USE_EXTERNAL_MODULES": "hidden_rule.training.engines.verl_start",
        "VERL_FILE_LOGGER_PATH": str(run.logs / f"verl.{run.attempt}.jsonl"),  # it empties the file that it opens
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(run.folder / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
        "HYDRA_FULL_ERROR": "1",
        **(on_cpu if run.device == "cpu" else {}),
    }


def read_logs(run: EngineRun) -> dict[int, dict[str, float]]:
    """What verl logged, by step; of a step that several attempts came to, the last one's."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(run.logs.glob("verl.*.jsonl"), key=lambda path: int(path.name.split(".")[1])):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # of a process that was killed
                continue
            found[int(entry["step"])] = entry["data"]
    return found


def check_rollout_policy(run: EngineRun) -> None:
    """Raise UserError if the policy that sampled was not the trained one: weights have not reached it."""
    off = [numbers[OFF] for numbers in read_logs(run).values() if numbers.get(OFF) is not None]
    if not off:
        raise UserError(run.place.log, None, f"verl logged no {OFF}, by which its rollouts are checked", "see there")
    dtype = computed(run)
    if not max(off) <= MOST_OFF[dtype] or any(map(math.isnan, off)):
        fault = f"probabilities of rollout and trainer differ by up to {max(off):.3g}, computed in {dtype}"
        raise UserError(run.place.log, None, fault, "the log says how weights were handed over")
