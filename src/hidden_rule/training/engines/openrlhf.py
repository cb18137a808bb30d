"""GRPO and PPO by OpenRLHF: its own code, started as its commands are, with the changes of `openrlhf_patches.py`.

A training that starts from another condition's adapter trains a new one on the base with that one merged in, and both
are joined afterwards (`openrlhf_adapters.py`). So a KL penalty is towards the start, as TRL's is.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json, write_text
from hidden_rule.models.adapters import ADAPTER
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.models.tokens import turn_of
from hidden_rule.training.engines.adapters import check_trained, start_weights
from hidden_rule.training.engines.openrlhf_adapters import join_adapters, write_merged_start, write_new_start
from hidden_rule.training.engines.openrlhf_command import Files, logical_gpus, train_command
from hidden_rule.training.engines.openrlhf_patches import CPU, FLOAT32, NEW_ADAPTER
from hidden_rule.training.engines.openrlhf_replies import ROLLOUT, Replies
from hidden_rule.training.engines.processes import Processes
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.ray_head import RayPlan, start_head
from hidden_rule.training.engines.run import EngineRun, Logged

if TYPE_CHECKING:  # what OpenRLHF's processes load: results depend on it (core/sources.py)
    from hidden_rule.training.engines import openrlhf_agent, openrlhf_cpu_patches  # noqa: F401

HERE = Path(__file__).parent
ENVIRONMENT = ENVIRONMENTS["openrlhf"]
CPUS = 16  # that Ray hands out to its actors, each of which asks for one and takes what it gets
MOST_KL = 0.01  # nats a token between vLLM's policy and the trained one, the median of the steps
METRICS = {  # OpenRLHF's names of what it logs -> ours
    "policy_loss": "loss",
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "entropy_loss": "entropy",
    "critic_loss": "value_loss",
    "values": "value",
}


class OpenRLHF:
    """The engine, see `run.Engine`."""

    name = "openrlhf"

    def train(self, run: EngineRun, processes: Processes, look: Callable[[], None]) -> int:
        files = files_of(run)
        prepare(run, files)
        choose_checkpoint(run)
        variables = variables_of(run)
        plan = RayPlan(ENVIRONMENT.python, CPUS, logical_gpus(run))
        address = start_head(processes, plan, run.folder, variables)
        driver = processes.start(train_command(run, ENVIRONMENT.python, files), {**variables, "RAY_ADDRESS": address})
        status = processes.wait(driver, look)
        if status == 0:
            write_text("", finished(run))
        return status

    def saved(self, run: EngineRun) -> int:
        if finished(run).exists():
            return run.n_steps
        return max(whole_steps(run), default=0)

    def logged(self, run: EngineRun) -> list[Logged]:
        names = {**METRICS, "kl": "kl"} if run.settings["beta"] else METRICS
        unit = read_json(run.door)["unit"]
        return [
            Logged(step, ours, numbers[theirs] * (unit if ours == "value" else 1.0))
            for step, numbers in sorted(read_logs(run).items())
            for theirs, ours in names.items()
            if theirs in numbers
        ]

    def adapter(self, run: EngineRun) -> Path:
        """The trained adapter; with a start's it is joined to that."""
        check_rollout_policy(read_logs(run), run.place.log)
        trained, folder = files_of(run).trained, run.folder / "adapter"
        computed = getattr(torch, run.dtype)
        before = {name: weight.to(computed) for name, weight in start_weights(new_start(run)).items()}
        after = {name: weight.float() for name, weight in start_weights(trained).items()}
        check_trained(before, after, self.name, run.place.log)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_file(after, folder / ADAPTER[0], metadata={"format": "pt"})
        write_text((new_start(run) / ADAPTER[1]).read_text(encoding="utf-8"), folder / ADAPTER[1])
        if not run.job.start_from:
            return folder
        joined = run.folder / "joined"
        join_adapters(run.start, folder, joined)
        return joined


def files_of(run: EngineRun) -> Files:
    """Where everything of a run lies that OpenRLHF is given beside the run's own files."""
    return Files(
        model=run.folder / "merged" if run.job.start_from else run.model,
        prompts=run.folder / "openrlhf_prompts.jsonl",
        agent=HERE / "openrlhf_agent.py",
        checkpoints=run.checkpoints,
        trained=run.folder / "trained",
        logs=run.logs / f"openrlhf.{run.attempt}.jsonl",
    )


def finished(run: EngineRun) -> Path:
    """A file that is there once the training has ended and the adapter is written."""
    return run.folder / "finished"


def new_start(run: EngineRun) -> Path:
    """The folder of the weights that the adapter begins with that is trained."""
    return run.folder / "new" if run.job.start_from else run.start


def prepare(run: EngineRun, files: Files) -> None:
    """Write what OpenRLHF reads beside the run's own files; what an earlier attempt wrote stays."""
    tokenizer = load_tokenizer(run.job.base.manifest, run.job.base.chat_template_kwargs)
    if run.job.start_from and not new_start(run).exists():
        shutil.rmtree(files.model, ignore_errors=True)
        write_merged_start(run.model, run.start, files.model)
        write_new_start(run.start, run.job.seed, new_start(run))
    write_text("".join(f"{line}\n" for line in prompt_lines(run, tokenizer)), files.prompts)
    stops = read_json(run.model / "generation_config.json")["eos_token_id"]
    replies = Replies(run.job.seed, stops if isinstance(stops, list) else [stops], turn_of(tokenizer).closing.strip())
    write_text(json.dumps(replies.as_json()), run.folder / "replies.json")
    shutil.rmtree(files.trained, ignore_errors=True)


def prompt_lines(run: EngineRun, tokenizer) -> list[str]:
    """Each prompt as text, which OpenRLHF makes tokens of, and its place as the label that comes back with a reply.

    Rendered here: OpenRLHF would take `<image>` in a message for a picture.
    """
    rows, kwargs = read_prompts(run.prompts), run.job.base.chat_template_kwargs
    conversations = [row["messages"] for row in rows]
    texts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True, **kwargs)
    return [json.dumps({"input": text, "label": str(row["place"])}) for text, row in zip(texts, rows, strict=True)]


def variables_of(run: EngineRun) -> dict[str, str]:
    """The environment of all processes of a run."""
    on_cpu = run.device == "cpu"
    paths = [HERE / "openrlhf_site", *([HERE / "openrlhf_cpu"] if on_cpu else []), run.variables["PYTHONPATH"]]
    cpu = {
        CPU: "1",
        "DS_ACCELERATOR": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, run.place.threads // 2)),
    }
    return {
        **run.variables,
        "PYTHONPATH": ":".join(map(str, paths)),
        NEW_ADAPTER: str(new_start(run)),
        **({FLOAT32: "1"} if run.dtype == "float32" else {}),
        ROLLOUT: str(run.folder / "replies.json"),
        "PATH": f"{ENVIRONMENT.python.parent}:{os.environ['PATH']}",  # DeepSpeed looks for ninja there
        "TORCH_EXTENSIONS_DIR": str(ENVIRONMENT.folder / "extensions"),  # what DeepSpeed compiles for GPUs
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(run.folder / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        **(cpu if on_cpu else {}),
    }


def whole_steps(run: EngineRun) -> set[int]:
    """Steps of which every model has a whole checkpoint: `metric.json` is what OpenRLHF writes last.

    Not the last step: from there OpenRLHF would begin with the prompts again. A training that was killed before its
    adapter was written repeats some steps.
    """
    models = ["_actor", *(["_critic"] if run.method == "ppo" else [])]
    steps = [
        {int(path.parent.name.removeprefix("global_step")) for path in (run.checkpoints / model).glob("*/metric.json")}
        for model in models
    ]
    return {step for step in set.intersection(*steps) if step < run.n_steps}


def choose_checkpoint(run: EngineRun) -> None:
    """Let OpenRLHF resume from the newest step of which every model has a whole checkpoint, and delete others."""
    newest = max(whole_steps(run), default=0)
    for model in run.checkpoints.glob("_*"):
        for folder in model.glob("global_step*"):
            if folder.name != f"global_step{newest}":
                shutil.rmtree(folder)
        if newest:
            write_text(f"global_step{newest}", model / "latest")
        else:
            shutil.rmtree(model)


def read_logs(run: EngineRun) -> dict[int, dict[str, float]]:
    """What OpenRLHF logged, by step; of a step that several attempts came to, the last one's."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(run.logs.glob("openrlhf.*.jsonl"), key=lambda path: int(path.name.split(".")[1])):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                numbers = json.loads(line)
            except ValueError:  # of a process that was killed
                continue
            found[int(numbers["step"])] = numbers
    return found


def check_rollout_policy(logs: dict[int, dict[str, float]], log) -> None:
    """Raise UserError if vLLM's policy was not the trained one: weights have not reached it."""
    off = [abs(numbers["vllm_kl"]) for numbers in logs.values() if "vllm_kl" in numbers]
    if not off:
        raise UserError(log, None, "OpenRLHF logged no vllm_kl, by which its rollouts are checked", "see what it says")
    if not median(off) <= MOST_KL:
        fault = f"log-probabilities of vLLM and of the trained model differ by {median(off):.3g} nats a token"
        raise UserError(log, None, fault, "raise it with what the log says of update_weight")
