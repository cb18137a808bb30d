"""What is changed in OpenRLHF 0.11.2 and its vLLM, function by function, on import (`openrlhf_site/sitecustomize.py`).

Each change says why, and what would make it needless. Those of EVERYWHERE are for GPUs as well; those of IN_FLOAT32
only where a job computes in it; those of CPU (`openrlhf_cpu_patches.py`) name devices and send weights by another way,
and compute nothing otherwise. With other versions than those that they were written for, all of them raise.

Runs in the environment of OpenRLHF: nothing but the standard library may be imported at the top.
"""

import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

VERSIONS = {"openrlhf": "0.11.2", "deepspeed": "0.19.6", "peft": "0.21.2"}
CPU = "HIDDEN_RULE_OPENRLHF_CPU"  # environment: set where there is no GPU
NEW_ADAPTER = "HIDDEN_RULE_NEW_ADAPTER"  # environment: the folder of the weights that training begins with
FLOAT32 = "HIDDEN_RULE_FLOAT32"  # environment: set where all is to be computed in float32


def check_versions(versions: dict[str, str]) -> None:
    """Raise RuntimeError if another version of a package is installed than its patches were written for."""
    for package, expected in versions.items():
        if (found := version(package)) != expected:
            raise RuntimeError(
                f"{package} {found} is installed, and patched here is {expected}: run make setup-openrlhf"
            )


def patches_of(name: str) -> list[Callable]:
    """What changes a module of this name, each called with it."""
    patches = [EVERYWHERE[name]] if name in EVERYWHERE else []
    if os.environ.get(FLOAT32):
        patches += [IN_FLOAT32[name]] if name in IN_FLOAT32 else []
    if os.environ.get(CPU):
        cpu = import_module("hidden_rule.training.engines.openrlhf_cpu_patches")
        patches += [cpu.PATCHES[name]] if name in cpu.PATCHES else []
    return patches


def apply(name: str, module) -> None:
    """Patch a module that has just been imported."""
    check_versions(VERSIONS)
    for patch in patches_of(name):
        patch(module)


def begin_with_our_adapter(module) -> None:
    """A new adapter has the weights that we drew with the job's seed, as a training by TRL has.

    OpenRLHF draws its own, and has no option for another start. Needless once it takes an adapter's folder.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    make = module.get_peft_model

    def get_peft_model(model, config, *args, **kwargs):
        peft = make(model, config, *args, **kwargs)
        weights = load_file(Path(os.environ[NEW_ADAPTER]) / "adapter_model.safetensors")
        report = set_peft_model_state_dict(peft, weights)
        peft.base_checksums = base_checksums(peft)
        lacking = [name for name in report.missing_keys if "lora_" in name]
        if lacking or report.unexpected_keys:
            raise RuntimeError(f"the new adapter has other weights than {NEW_ADAPTER}: {(lacking or report)[:3]}")
        return peft

    module.get_peft_model = get_peft_model


def base_checksums(peft) -> dict[str, int]:
    """Sums of the bits of each weight of the base model, 16 at a time."""
    import torch

    sums = {}
    for name, weight in peft.named_parameters():
        if "lora_" not in name and weight.element_size() in (2, 4):
            sums[name] = int(weight.detach().contiguous().view(torch.int16).sum(dtype=torch.int64))
    return sums


def train_whole_critic(module) -> None:
    """The critic is trained with all of its weights.

    With LoRA, OpenRLHF gives the critic an adapter too, and freezes the rest with it, the head that says the value
    among it, which then stays as it was drawn. Needless once its adapter has modules_to_save.
    """
    module.get_peft_model = lambda model, config: model


def keep_order(module) -> None:
    """Prompts come in the order of their file, which holds all epochs, each shuffled as for every other engine.

    OpenRLHF shuffles them again, and has no option against it.
    """
    setup = module.DeepspeedStrategy.setup_dataloader

    def setup_dataloader(self, data, batch_size, pin_memory=False, shuffle=True, *args, **kwargs):
        return setup(self, data, batch_size, False, False, *args, **kwargs)

    module.DeepspeedStrategy.setup_dataloader = setup_dataloader


def keep_order_and_base(module) -> None:
    """The module's two changes."""
    keep_order(module)
    check_base(module)


def check_base(module) -> None:
    """An adapter is saved only if every weight of the base model is what it was when the adapter was made."""
    from peft import PeftModel

    save = module.DeepspeedStrategy.save_model

    def save_model(self, model, tokenizer, output_dir, **kwargs):
        peft = self._unwrap_model(model)
        if isinstance(peft, PeftModel) and self.stage < 3:
            after = base_checksums(peft)
            moved = [name for name, value in peft.base_checksums.items() if after[name] != value]
            if moved or not after:
                raise RuntimeError(f"weights of the base model changed in training: {moved[:3]}")
        save(self, model, tokenizer, output_dir, **kwargs)

    module.DeepspeedStrategy.save_model = save_model


def train_in_float32(module) -> None:
    """DeepSpeed trains in the type that the weights have: OpenRLHF lets one choose among bfloat16 and float16 alone.

    This, `load_float32` and `sample_in_float32` are needless once `--ds.param_dtype` knows fp32 and vLLM is given it.
    """

    def in_float32(make):
        def get_config(self, *args, **kwargs):
            return {**make(self, *args, **kwargs), "bf16": {"enabled": False}}

        return get_config

    strategy = module.DeepspeedStrategy
    strategy.get_ds_train_config = in_float32(strategy.get_ds_train_config)
    strategy.get_ds_eval_config = in_float32(strategy.get_ds_eval_config)


def load_float32(module) -> None:
    """Models are loaded in float32, whatever the option says."""
    import torch

    module.convert_to_torch_dtype = lambda param_dtype: torch.float32


def sample_in_float32(module) -> None:
    """vLLM, which OpenRLHF always gives bfloat16, computes in float32."""
    make = module.EngineArgs.__post_init__

    def in_float32(self):
        self.dtype = "float32"
        make(self)

    module.EngineArgs.__post_init__ = in_float32


def log_json(module) -> None:
    """Numbers of a step go to a file as a line of JSON, instead of to TensorBoard's files, which need a reader.

    The file is what `--logger.tensorboard_dir` names.
    """

    class JsonLogger:
        def __init__(self, args):
            self.path = Path(args.logger.tensorboard_dir)

        def log_train(self, global_step, logs_dict):
            numbers = {name: float(value) for name, value in logs_dict.items() if name != "generated_samples"}
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": global_step, **numbers}) + "\n")

        def log_eval(self, global_step, logs_dict):
            raise RuntimeError("nothing is evaluated here")

        def close(self):
            pass

    module.TensorboardLogger = JsonLogger


def merged_layers(peft) -> list[tuple[str, object]]:
    """The weights of a PEFT model that differ from the base's, by the base's names, adapters added in float32.

    Each is computed when it is sent (`data`), so that memory never holds a second copy of the model, and again rounded
    to the base's type. Under ZeRO-3 `parts` have to be gathered before.
    """
    from peft.tuners.lora import LoraLayer

    class Merged:
        requires_grad = True

        def __init__(self, layer):
            base = layer.get_base_layer().weight
            self.layer, self.dtype = layer, base.dtype
            self.ds_shape = getattr(base, "ds_shape", base.shape)
            self.shape = self.ds_shape
            adapters = [layer.lora_A, layer.lora_B]
            self.parts = [base, *(each[name].weight for each in adapters for name in layer.active_adapters)]

        @property
        def data(self):
            weight = self.layer.get_base_layer().weight.data
            return (weight.float() + sum(map(self.added, self.layer.active_adapters))).to(weight.dtype)

        def added(self, name):  # PEFT's get_delta_weight rounds this to the adapter's type
            product = self.layer.lora_B[name].weight.float() @ self.layer.lora_A[name].weight.float()
            return self.layer.scaling[name] * (product.T if getattr(self.layer, "fan_in_fan_out", False) else product)

    layers = peft.get_base_model().named_modules()
    return [(f"{name}.weight", Merged(layer)) for name, layer in layers if isinstance(layer, LoraLayer)]


def send_merged(module) -> None:
    """With LoRA, vLLM is sent the layers that have an adapter, with it merged in, under the names of the base model.

    OpenRLHF sends all parameters of the PEFT model under PEFT's names, of which vLLM knows none, on GPUs too. Needless
    once `broadcast_to_vllm` merges. The other weights never change, and vLLM has loaded them from the same files.
    """
    import torch
    from peft import PeftModel

    send = module.ActorPPOTrainer.broadcast_to_vllm
    zero = module.deepspeed.zero
    gather = zero.GatheredParameters

    class View(torch.nn.Module):  # as what it stands in for is one
        def __init__(self, peft):
            super().__init__()
            self.layers = merged_layers(peft)

        def named_parameters(self, *args, **kwargs):
            return iter(self.layers)

    def gathered(params, *args, **kwargs):
        whole = [part for each in params for part in getattr(each, "parts", [each])]
        return gather(whole, *args, **kwargs)

    def broadcast_to_vllm(self):
        engine = self.actor.model
        peft = engine.module
        if not isinstance(peft, PeftModel):
            return send(self)
        if self.strategy.args.ds.tensor_parallel_size > 1:
            raise RuntimeError("an adapter cannot be merged where tensors are split: take ds.tensor_parallel_size 1")
        engine.module, zero.GatheredParameters = View(peft), gathered
        try:
            with torch.no_grad():
                send(self)
        finally:
            engine.module, zero.GatheredParameters = peft, gather

    module.ActorPPOTrainer.broadcast_to_vllm = broadcast_to_vllm


EVERYWHERE = {
    "openrlhf.models.actor": begin_with_our_adapter,
    "openrlhf.models.model": train_whole_critic,
    "openrlhf.utils.deepspeed.deepspeed": keep_order_and_base,
    "openrlhf.utils.logging_utils": log_json,
    "openrlhf.trainer.ray.ppo_actor": send_merged,
}
IN_FLOAT32 = {
    "openrlhf.utils.deepspeed.deepspeed": train_in_float32,
    "openrlhf.utils.utils": load_float32,
    "vllm.engine.arg_utils": sample_in_float32,
}
