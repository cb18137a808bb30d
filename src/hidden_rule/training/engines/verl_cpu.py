"""verl without a GPU: a platform, a rollout by transformers, and its own FSDP engines; written for verl 0.9.1.

Nothing that computes is left out: the trainer, its losses and its sharding are verl's, with gloo between processes.
Each part, and what would remove it:
- `CpuPlatform`: verl's plug-in interface for devices. Until verl has a platform for CPUs.
- Its `communication_backend_name` makes the process group itself: verl asks for "cpu:gloo,<device>:<backend>", and
  torch refuses a device that is named twice; verl makes no group where there is one. Until verl names gloo once.
- `HFServer`, `HFServerAdapter`, `HFReplica`: a rollout named `hf_cpu`, entered in `_ROLLOUT_REGISTRY`, in a process of
  its own as vLLM's is, to which the trainer hands its weights (`verl_rollout.py` generates). Until vLLM's CPU build
  takes verl's weights.
- The FSDP engines, registered for CPUs as verl registers them for GPUs. Until verl does.

Imported in verl's environment alone, by `verl_plugin.py`.
"""

import asyncio
import os
import types
from contextlib import contextmanager

import ray
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry, set_platform
from verl.workers.rollout import base, replica

from hidden_rule.training.engines.verl_names import CPU_ROLLOUT
from hidden_rule.training.engines.verl_rollout import Request, Sampler


class _Device(types.ModuleType):
    """torch.cpu with the functions that verl expects of every torch.<device>; there is no memory of its own."""

    def __getattr__(self, name):
        return getattr(torch.cpu, name)

    @staticmethod
    def _nothing(*args, **kwargs):
        return None

    @staticmethod
    def _zero(*args, **kwargs):
        return 0

    empty_cache = ipc_collect = reset_peak_memory_stats = _nothing
    memory_allocated = memory_reserved = max_memory_allocated = max_memory_reserved = _zero
    get_rng_state, set_rng_state = staticmethod(torch.get_rng_state), staticmethod(torch.set_rng_state)

    @staticmethod
    def is_available():  # no memory of a device to clean up or to load to
        return False

    @staticmethod
    def mem_get_info(*args):
        return 0, 0

    @staticmethod
    def get_device_name(*args):
        return "CPU"


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """A machine's CPU as verl's device."""

    device_name, vendor_name, device_module = "cpu", "cpu", _Device("hidden_rule_verl_cpu")

    def is_available(self):
        return True

    def current_device(self):
        return "cpu"  # what verl hands to tensor.to()

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        # asked for right before the group is made (verl/utils/distributed.py)
        if "WG_PREFIX" in os.environ and not torch.distributed.is_initialized():
            rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg):
        yield

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "GPU"  # verl counts these (and NPU) alone; Ray is told of as many as there are processes that train

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def cudart(self):
        return None


class HFServer:
    """The policy that samples, in a process of its own; requests that come together are computed together."""

    def __init__(self, config, model_config, rank: int):
        self.config = config
        self.sampler = Sampler(model_config.path, int(config.seed) + rank)
        self.global_steps = 0
        self._waiting: list[tuple[Request, asyncio.Future]] = []
        self._busy = asyncio.Lock()

    def ready(self):
        return True

    async def generate(self, prompt_ids, sampling_params, request_id, **ignored):
        limit = self.config.prompt_length + self.config.response_length - len(prompt_ids)
        request = Request(
            list(prompt_ids),
            temperature=float(sampling_params.get("temperature", 1.0)),
            max_tokens=sampling_params.get("max_tokens") or min(self.config.response_length, limit),
        )
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        await asyncio.sleep(0.1)  # the batch's other requests are on their way
        async with self._busy:
            batch, self._waiting = self._waiting, []
            if batch:
                replies = await asyncio.to_thread(self.sampler.sample, [each for each, _ in batch], self.global_steps)
                for (_, future), reply in zip(batch, replies, strict=True):
                    future.set_result(reply)
        reply = await answer
        return replica.TokenOutput(
            token_ids=reply.tokens,
            log_probs=reply.log_probs if sampling_params.get("logprobs") else None,
            stop_reason="completed",
            extra_fields={"global_steps": self.global_steps},
        )

    async def load(self, weights, peft_config, global_steps):
        async with self._busy:
            self.sampler.load(weights, peft_config)
            self.global_steps = global_steps or 0

    async def _nothing(self, *args, **kwargs):
        return None

    # there is no memory of a device to give back, and no request outlives a step
    sleep = wake_up = clear_kv_cache = abort_all_requests = resume_generation = _nothing
    release_kv_cache = resume_kv_cache = start_profile = stop_profile = _nothing


class HFServerAdapter(base.BaseRollout):
    """The trainer's end: hands new weights to the server of its rank."""

    def __init__(self, config, model_config, device_mesh, **kwargs):
        super().__init__(config, model_config, device_mesh)
        self.server = None

    async def resume(self, tags):
        pass

    async def release(self):
        pass

    async def update_weights(self, weights, peft_config=None, global_steps=None, **ignored):
        weights = {name: tensor.detach().cpu().clone() for name, tensor in weights}
        self.server = self.server or ray.get_actor(server_name(os.environ["RANK"]))
        await self.server.load.remote(weights, peft_config, global_steps)


class HFReplica(replica.RolloutReplica):
    """Starts a server."""

    async def launch_servers(self):
        name = server_name(self.replica_rank)
        server = ray.remote(HFServer).options(name=name, num_cpus=0, max_concurrency=1000)
        self._server_handle = server.remote(self.config, self.model_config, self.replica_rank)
        await self._server_handle.ready.remote()
        self.servers, self._server_address = [self._server_handle], name


def server_name(rank) -> str:
    """The name under which Ray knows the server of a rank."""
    return f"hf_server_{rank}"


def register_engines() -> None:
    """verl's FSDP engines for CPUs; in a process that trains alone, for their modules ask what device there is."""
    from verl.workers.engine import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

    EngineRegistry.register("language_model", ["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithLMHead)
    EngineRegistry.register("value_model", ["fsdp", "fsdp2"], device="cpu")(FSDPEngineWithValueHead)


set_platform(CpuPlatform())
base._ROLLOUT_REGISTRY[CPU_ROLLOUT, "async"] = f"{__name__}.HFServerAdapter"
replica.RolloutReplicaRegistry.register(CPU_ROLLOUT, lambda: HFReplica)
if "WG_PREFIX" in os.environ:
    register_engines()
