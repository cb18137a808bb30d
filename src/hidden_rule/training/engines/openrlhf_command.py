"""The command by which OpenRLHF trains what a job asks for, composed from its settings.

What it has in common with TRL's GRPO here is asked for by name, since its defaults are others: AdamW's second beta, the
schedule, one optimizer step a rollout, rewards that are not clipped, and no minimum of the learning rate.

Where OpenRLHF departs from TRL:
- In bfloat16 the adapter's weights are bfloat16 too, of which its optimizer keeps float32 ones.
- The loss weighs each token by the ratio of its probabilities in trainer and rollout (1 up to rounding), and leaves out
  tokens whose ratio is not between 0.5 and 5. Only so it measures their difference, `vllm_kl`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.training.engines.run import EngineRun

ESTIMATORS = {
    "group": "group_norm",
    "none": "dr_grpo",
}  # by scale_rewards: over the deviation, or not
LOSSES = {"grpo": "seq-mean-token-mean", "dapo": "token-mean"}  # by loss_type
MOST = 1_000_000_000  # of a clip that is not to be; a negative -1e9 would be taken for an option
SHARE = 0.5  # of a GPU's memory, which vLLM has beside the models that are trained


@dataclass(frozen=True)
class Files:
    """What OpenRLHF is given beside the run's own files, and where it writes."""

    model: Path  # the base model, or with a start's adapter merged into it
    prompts: Path  # JSON lines: `input`, the prompt as text, and `label`, its place
    agent: Path  # the Python file that samples and scores replies
    checkpoints: Path
    trained: Path  # the adapter's folder
    logs: Path  # JSON lines of this attempt


def flags(values: dict) -> list[str]:
    """Options of a command line: True is an option without a value, a list has several, None and False leave it out."""
    words: list[str] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if isinstance(value, list):
            words += [str(each) for each in value]
        elif value is not True:
            words.append(str(value))
    return words


def ranks(run: EngineRun) -> int:
    """Processes that train: one a GPU, or one on a CPU."""
    return max(1, run.place.processes) if run.device == "cuda" else 1


def micro_samples(settings: dict, ranks: int) -> int:
    """Replies that a rank computes at a time: whole groups of the micro-batch, or fewer where its share asks for it."""
    share = settings["batch_size"] * settings["group_size"] // ranks
    return math.gcd(share, settings["micro_batch_size"] * settings["group_size"])


def train_command(run: EngineRun, python: Path, files: Files) -> list[str]:
    """The driver's command; it finds Ray's head by RAY_ADDRESS."""
    values = {
        **_models(run, files),
        **_data(run, files),
        **_batches(run),
        **_optimizer(run, "actor", run.settings["learning_rate"]),
        **(_critic(run) if run.method == "ppo" else _groups(run.settings)),
        **_loss(run.settings),
        **_places(run),
    }
    return [str(python), "-m", "openrlhf.cli.train_ppo_ray", *flags(values)]


def _models(run: EngineRun, files: Files) -> dict:
    lora = run.job.lora
    return {
        "actor.model_name_or_path": files.model,
        "critic.model_name_or_path": files.model if run.method == "ppo" else None,
        "ds.param_dtype": "bf16",  # in float32 too, which it has no word for: openrlhf_patches.py
        "ds.attn_implementation": "sdpa",
        "ds.zero_stage": 2,
        "ds.lora.rank": lora["r"],
        "ds.lora.alpha": lora["alpha"],
        "ds.lora.target_modules": run.target_modules,
        "actor.gradient_checkpointing_enable": run.settings["gradient_checkpointing"],
        "train.seed": run.job.seed,
        "train.agent_func_path": files.agent,
        "ckpt.path": files.checkpoints,
        "ckpt.output_dir": files.trained,
        "ckpt.save_steps": run.save_steps,
        "ckpt.max_num": 2,
        "ckpt.load_enable": True,
        "logger.tensorboard_dir": files.logs,
    }


def _data(run: EngineRun, files: Files) -> dict:
    n_reply = run.settings["max_new_tokens"]
    return {
        "data.prompt_dataset": files.prompts,
        "data.input_key": "input",
        "data.label_key": "label",
        "data.max_len": run.longest_prompt + n_reply,
        "rollout.max_new_tokens": n_reply,
        "rollout.temperature": run.settings["temperature"],
    }


def _batches(run: EngineRun) -> dict:
    """One step is one rollout of `batch_size` prompts, by all of which is updated; the file holds all epochs."""
    settings = run.settings
    micro = micro_samples(settings, ranks(run))
    return {
        "rollout.batch_size": settings["batch_size"],
        "rollout.n_samples_per_prompt": settings["group_size"],
        "rollout.micro_batch_size": micro,
        "train.batch_size": settings["batch_size"] * settings["group_size"],
        "train.micro_batch_size": micro,
        "train.max_epochs": settings.get("updates", 1),
        "train.num_episodes": 1,
    }


def _optimizer(run: EngineRun, model: str, learning_rate: float) -> dict:
    """AdamW and its schedule as transformers' trainers have them."""
    updates = run.settings.get("updates", 1)  # of one rollout; OpenRLHF counts each as a step of the schedule
    return {
        f"{model}.adam.lr": learning_rate,
        f"{model}.adam.betas": [0.9, 0.999],
        f"{model}.lr_scheduler": "linear",
        f"{model}.lr_warmup_ratio": warmup_ratio(run.settings["warmup_steps"] * updates, run.n_steps * updates),
        f"{model}.max_norm": run.settings["max_grad_norm"],
    }


def warmup_ratio(warmup_steps: int, n_steps: int) -> float:
    """The ratio of which OpenRLHF makes `warmup_steps` again, which it rounds up."""
    return max(0.0, (warmup_steps - 0.5) / n_steps) if warmup_steps else 0.0


def _groups(settings: dict) -> dict:
    return {
        "algo.advantage.estimator": ESTIMATORS[settings["scale_rewards"]],
        "actor.loss_agg_mode": LOSSES[settings["loss_type"]],
    }


def _critic(run: EngineRun) -> dict:
    settings = run.settings
    return {
        "algo.advantage.estimator": "gae",
        "algo.advantage.gamma": 1.0,
        "algo.advantage.lambd": settings["gae_lambda"],
        "actor.eps_clip": settings["clip"],
        "actor.loss_agg_mode": "token-mean",
        "critic.value_clip": MOST,
        **_optimizer(run, "critic", settings["critic_learning_rate"]),
    }


def _loss(settings: dict) -> dict:
    """The penalties of the loss, and the correction that measures how far the rollout's probabilities are off."""
    return {
        "algo.kl.init_coef": settings["beta"],
        "algo.kl.use_loss": bool(settings["beta"]),
        "algo.kl.estimator": "k3" if settings["beta"] else "k1",
        "actor.entropy_coef": settings.get("entropy_coef", 0.0),  # 0 logs it
        "algo.advantage.is_correction_level": "token",
        "reward.clip_range": [-MOST, MOST],
    }


def _places(run: EngineRun) -> dict:
    """Where the models are: on a CPU each is a process of its own; on GPUs all of them share each GPU in turns."""
    on_gpus, n = run.device == "cuda", ranks(run)
    sharing = {
        "train.colocate_all": True,
        "vllm.enable_sleep": True,
        "ds.enable_sleep": True,
        "vllm.gpu_memory_utilization": SHARE,
        "vllm.enable_prefix_caching": True,
    }
    return {
        "vllm.num_engines": n,
        "vllm.tensor_parallel_size": 1,
        "vllm.enforce_eager": True,
        "vllm.sync_backend": "nccl" if on_gpus else "gloo",
        **{f"{model}.num_nodes": 1 for model in ("actor", "ref", "critic", "reward")},
        **{f"{model}.num_gpus_per_node": n for model in ("actor", "ref", "critic", "reward")},
        **(sharing if on_gpus else {}),
    }


def logical_gpus(run: EngineRun) -> int:
    """GPUs that Ray's head has to offer; on a CPU each model counts as one."""
    if run.device == "cuda":
        return ranks(run)
    return 2 + bool(run.settings["beta"]) + (run.method == "ppo")
