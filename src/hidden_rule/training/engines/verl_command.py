"""The command by which verl trains what a job asks for, composed from its settings; written for verl 0.9.1.

What it has in common with TRL's GRPO here is asked for by name, since its defaults are others: AdamW without weight
decay, the linear schedule (`verl_plugin.py`), one optimizer step a rollout by all of it, prompts in the file's order,
and no second clip of the policy's loss.

Where verl departs from TRL:
- Weights are float32 and sharded by FSDP 2 whatever `launch.strategy` says; on GPUs they are computed in the base
  model's type, and sampled from by vLLM.
- The log-probabilities before the update are computed anew, by a pass of their own.
"""

import math
from pathlib import Path

from hidden_rule.training.engines.run import EngineRun
from hidden_rule.training.engines.verl_names import CPU_ROLLOUT

LOSSES = {"grpo": "seq-mean-token-mean", "dapo": "token-mean", "dr_grpo": "seq-mean-token-sum-norm"}  # by loss_type
NEVER = 1e6  # of a clip that is not to be
SHARE = 0.5  # of a GPU's memory, which vLLM has beside the models that are trained


def train_command(run: EngineRun, python: Path) -> list[str]:
    """The driver's command; it finds Ray's head by RAY_ADDRESS."""
    values = {
        **_data(run),
        **_model(run),
        **_actor(run),
        **_rollout(run),
        **(_critic(run) if run.method == "ppo" else _groups(run.settings)),
        **_reward(run),
        **_trainer(run),
    }
    return [str(python), "-m", "verl.trainer.main_ppo", *overrides(values)]


def overrides(values: dict) -> list[str]:
    """Hydra's overrides `key=value`; a key that verl's configuration does not have begins with `+`."""
    return [f"{key}={_as_hydra(value)}" for key, value in values.items()]


def _as_hydra(value) -> str:
    """A value as Hydra's grammar reads it; texts are quoted, for paths may hold anything."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_hydra, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def ranks(run: EngineRun) -> int:
    """Processes that train: one a GPU, or one on a CPU."""
    return max(1, run.place.processes) if run.device == "cuda" else 1


def computed(run: EngineRun) -> str:
    """The type that verl computes in: on a CPU float32, as its rollout there does."""
    return run.dtype if run.device == "cuda" else "float32"


def micro_samples(settings: dict, n_ranks: int) -> int:
    """Replies that a rank computes at a time: whole groups of the micro-batch, or fewer where its share asks for it."""
    share = settings["batch_size"] * settings["group_size"] // n_ranks
    return math.gcd(share, settings["micro_batch_size"] * settings["group_size"])


def _micro(run: EngineRun) -> int:
    return micro_samples(run.settings, ranks(run))


def _data(run: EngineRun) -> dict:
    return {
        "data.train_files": run.folder / "verl_train.parquet",
        "data.val_files": run.folder / "verl_val.parquet",
        "data.train_batch_size": run.settings["batch_size"],
        "data.max_prompt_length": run.longest_prompt,
        "data.max_response_length": run.settings["max_new_tokens"],
        "data.shuffle": False,  # the file is in the order of its steps
        "data.seed": run.job.seed,
        "data.dataloader_num_workers": 0,
        "data.filter_overlong_prompts_workers": 1,
    }


def _model(run: EngineRun) -> dict:
    lora, at = run.job.lora, "actor_rollout_ref.model"
    return {
        f"{at}.path": run.model,
        f"+{at}.override_config.attn_implementation": "sdpa",
        f"{at}.use_remove_padding": False,
        f"{at}.enable_gradient_checkpointing": run.settings["gradient_checkpointing"],
        f"{at}.lora_rank": lora["r"],
        f"{at}.lora_alpha": lora["alpha"],
        f"{at}.target_modules": run.target_modules,
        f"{at}.lora_adapter_path": run.start,
    }


def _sharding(run: EngineRun, at: str) -> dict:
    """FSDP 2 of float32 weights."""
    kinds = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    return {
        f"{at}.model_dtype": "fp32",
        f"+{at}.mixed_precision.param_dtype": kinds[computed(run)],
        f"{at}.use_torch_compile": False,
        f"{at}.seed": run.job.seed,
    }


def _optimizer(run: EngineRun, at: str, learning_rate: float) -> dict:
    return {
        f"{at}.optim.lr": learning_rate,
        f"{at}.optim.lr_warmup_steps": run.settings["warmup_steps"],
        f"{at}.optim.weight_decay": 0.0,
        f"{at}.grad_clip": run.settings["max_grad_norm"],
    }


def _actor(run: EngineRun) -> dict:
    settings, at = run.settings, "actor_rollout_ref.actor"
    return {
        f"{at}.strategy": "fsdp2",
        f"{at}.use_torch_compile": False,
        **_sharding(run, f"{at}.fsdp_config"),
        **_optimizer(run, at, settings["learning_rate"]),
        f"{at}.ppo_mini_batch_size": settings["batch_size"],
        f"{at}.ppo_micro_batch_size_per_gpu": _micro(run),
        f"{at}.ppo_epochs": settings.get("updates", 1),
        f"{at}.data_loader_seed": run.job.seed,
        f"{at}.loss_agg_mode": LOSSES[settings.get("loss_type", "dapo")],
        f"{at}.loss_scale_factor": settings["max_new_tokens"] if settings.get("loss_type") == "dr_grpo" else None,
        f"{at}.clip_ratio": settings.get("clip", 0.2),
        f"{at}.clip_ratio_low": settings.get("clip", 0.2),
        f"{at}.clip_ratio_high": settings.get("clip", 0.2),
        f"{at}.clip_ratio_c": NEVER,
        f"{at}.entropy_coeff": settings["entropy_coef"],
        f"{at}.calculate_entropy": True,
        f"{at}.use_kl_loss": bool(settings["beta"]),
        f"{at}.kl_loss_coef": settings["beta"],
        f"{at}.kl_loss_type": "low_var_kl",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": _micro(run),
        # a GPU's checkpoints hold the adapter alone; a CPU's all weights, so that the base's are seen not to move
        f"+{at}.checkpoint.save_lora_only": run.device == "cuda",
    }


def _rollout(run: EngineRun) -> dict:
    settings, at = run.settings, "actor_rollout_ref.rollout"
    on_gpus = run.device == "cuda"
    return {
        f"{at}.name": "vllm" if on_gpus else CPU_ROLLOUT,
        f"{at}.n": settings["group_size"],
        f"{at}.temperature": settings["temperature"],
        f"{at}.seed": run.job.seed,
        f"{at}.dtype": computed(run),
        f"{at}.tensor_model_parallel_size": 1,
        f"{at}.load_format": "safetensors",
        f"{at}.free_cache_engine": on_gpus,
        f"{at}.log_prob_micro_batch_size_per_gpu": _micro(run),
        f"{at}.agent.num_workers": 1,
        f"{at}.calculate_log_probs": True,
        **({f"{at}.gpu_memory_utilization": SHARE, f"{at}.layered_summon": False} if on_gpus else {}),
    }


def _groups(settings: dict) -> dict:
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": settings["scale_rewards"] == "group",
    }


def _critic(run: EngineRun) -> dict:
    settings = run.settings
    return {
        "algorithm.adv_estimator": "gae",
        "algorithm.gamma": 1.0,
        "algorithm.lam": settings["gae_lambda"],
        "critic.model.path": run.model,
        "+critic.model.override_config.attn_implementation": "sdpa",
        "critic.model.use_remove_padding": False,
        "critic.model.enable_gradient_checkpointing": settings["gradient_checkpointing"],
        "critic.strategy": "fsdp2",
        **_sharding(run, "critic.fsdp"),
        **_optimizer(run, "critic", settings["critic_learning_rate"]),
        "critic.ppo_mini_batch_size": settings["batch_size"],
        "critic.ppo_micro_batch_size_per_gpu": _micro(run),
        "critic.ppo_epochs": settings["updates"],
        "critic.data_loader_seed": run.job.seed,
        "critic.cliprange_value": NEVER,
    }


def _reward(run: EngineRun) -> dict:
    """Our reward manager; verl wants a rollout for a reward model that there is none of."""
    return {
        "reward.num_workers": 1,
        "reward.reward_manager.source": "importlib",
        "reward.reward_manager.name": "HiddenRuleRewards",
        "reward.reward_manager.module.path": "pkg://hidden_rule.training.engines.verl_door",
        "reward.reward_model.rollout.name": "vllm" if run.device == "cuda" else CPU_ROLLOUT,
        "reward.reward_model.rollout.tensor_model_parallel_size": 1,
    }


def _trainer(run: EngineRun) -> dict:
    return {
        **({} if run.device == "cuda" else {"trainer.device": "cpu"}),
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "trainer.n_gpus_per_node": ranks(run),
        "trainer.nnodes": 1,
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": run.n_steps,
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.save_freq": run.save_steps,
        "trainer.max_actor_ckpt_to_keep": 2,
        "trainer.max_critic_ckpt_to_keep": 2,
        "trainer.default_local_dir": run.checkpoints,
        "trainer.resume_mode": "auto",
        "trainer.ray_wait_register_center_timeout": 1800,  # seconds, on a busy machine
        "trainer.logger": ["console", "file"],
        "hydra.run.dir": run.folder / "hydra",
        "hydra.output_subdir": None,
    }
