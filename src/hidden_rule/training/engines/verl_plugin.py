"""What verl is changed by, in each of its processes; written for verl 0.9.1 (VERL_USE_EXTERNAL_MODULES).

Each change with its reason, and what would remove it:
- `linear_schedule`, in place of `FSDPEngine._build_lr_scheduler`: the learning rate falls linearly to 0, as TRL's does;
  verl knows constant and cosine. Until its `lr_scheduler_type` knows linear.
- `load_value_head`: the critic is loaded with the attention that its configuration names, its head drawn with the
  training's seed; verl insists on flash attention whatever is set, and draws the head unseeded. Until
  `load_valuehead_model` takes `attn_implementation` from the configuration, and a seed.
- On a CPU: a platform, a rollout and FSDP engines (`verl_cpu.py`).

Imported in verl's environment alone.
"""

import importlib.metadata
import os

from hidden_rule.training.engines.verl_names import CPU, SEED

WRITTEN_FOR = "0.9.1"


def check_version() -> None:
    """Raise RuntimeError in another version of verl than the one that this was written for."""
    installed = importlib.metadata.version("verl")
    if installed != WRITTEN_FOR:
        raise RuntimeError(f"verl {installed} is installed, and {__name__} was written for {WRITTEN_FOR}")


def linear_schedule(engine, optimizer):
    """transformers' linear schedule with warm-up; `engine`: verl's, whose configuration names the steps."""
    from transformers import get_linear_schedule_with_warmup

    settings = engine.optimizer_config
    return get_linear_schedule_with_warmup(optimizer, max(0, settings.lr_warmup_steps), settings.total_training_steps)


def load_value_head(local_path, torch_dtype, model_config, trust_remote_code):
    """A model with one number a token, its attention as configured, its head drawn with the training's seed."""
    import torch
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(int(os.environ[SEED]))
    return AutoModelForTokenClassification.from_pretrained(
        local_path, config=model_config, dtype=torch_dtype, trust_remote_code=trust_remote_code
    )


def change_training() -> None:
    """Make the changes that are for the processes that train, which the variable WG_PREFIX tells."""
    from verl.utils import model
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

    FSDPEngine._build_lr_scheduler = linear_schedule
    model.load_valuehead_model = load_value_head


def change_verl() -> None:
    """Make all changes; called where verl is imported."""
    check_version()
    if CPU in os.environ:
        from hidden_rule.training.engines import verl_cpu  # noqa: F401
    if "WG_PREFIX" in os.environ:
        change_training()
