"""verl as an engine, as far as it can be told without its environment: commands, checkpoints, sampling."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from byte_models import byte_manifest
from hidden_rule.core.errors import UserError
from hidden_rule.models.base import BaseModel
from hidden_rule.training.engines import verl
from hidden_rule.training.engines.run import EngineRun
from hidden_rule.training.engines.verl_checkpoint import adapter_weights, moved_base_weight, read_checkpoint, whole
from hidden_rule.training.engines.verl_command import micro_samples, overrides, train_command
from hidden_rule.training.engines.verl_plugin import check_version
from hidden_rule.training.engines.verl_rollout import Request, Sampler
from hidden_rule.training.job import CheckpointPlan, TrainingData, TrainingJob, TrainingOutput
from hidden_rule.training.launch import Place

COMMON = {
    "learning_rate": 3e-4, "warmup_steps": 10, "batch_size": 8, "micro_batch_size": 4, "group_size": 6,
    "max_grad_norm": 0.5, "gradient_checkpointing": False, "temperature": 0.9, "max_new_tokens": 24, "beta": 0.0,
    "entropy_coef": 0.05,
}  # fmt: skip
GRPO = {**COMMON, "loss_type": "dapo", "scale_rewards": "group"}
PPO = {**COMMON, "critic_learning_rate": 1e-4, "gae_lambda": 0.95, "clip": 0.1, "updates": 3}


def run_of(folder: Path, settings: dict, method: str = "grpo", device: str = "cpu", n: int = 1) -> EngineRun:
    job = TrainingJob(
        condition="c",
        seed=7,
        base=BaseModel(folder / "manifest.json", "auto"),
        start_from=None,
        lora={"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]},
        settings=settings,
        data=TrainingData(folder, folder, folder),
        output=TrainingOutput(folder, folder, folder),
        decoding="free",
        checkpoints=CheckpointPlan(folder, "x"),
    )
    place, dtype = Place(folder / "log", 2, n, n), "float32" if device == "cpu" else "bfloat16"
    return EngineRun(job, method, place, folder, 240, 80, 150, dtype, device)


def options(run: EngineRun) -> dict[str, str]:
    """What the command sets, without the signs that Hydra wants before keys that are new."""
    words = train_command(run, Path("py"))
    assert words[:3] == ["py", "-m", "verl.trainer.main_ppo"]
    found = dict(word.lstrip("+").split("=", 1) for word in words[3:])
    assert len(found) == len(words) - 3  # nothing twice
    return found


ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
TYPE = "fsdp_config.mixed_precision.param_dtype"


@pytest.mark.parametrize(
    ("settings", "method", "device", "expected"),
    [
        (
            GRPO, "grpo", "cpu",
            {
                "algorithm.adv_estimator": "'grpo'", "algorithm.norm_adv_by_std_in_grpo": "true",
                "data.train_batch_size": "8", "data.shuffle": "false", "data.max_prompt_length": "150",
                f"{ROLLOUT}.n": "6", f"{ROLLOUT}.name": "'hf_cpu'", f"{ROLLOUT}.temperature": "0.9",
                f"{ACTOR}.ppo_mini_batch_size": "8", f"{ACTOR}.ppo_micro_batch_size_per_gpu": "24",
                f"{ACTOR}.optim.lr": "0.0003", f"{ACTOR}.optim.weight_decay": "0.0", f"{ACTOR}.ppo_epochs": "1",
                f"{ACTOR}.grad_clip": "0.5", f"{ACTOR}.loss_agg_mode": "'token-mean'", f"{ACTOR}.use_kl_loss": "false",
                f"{ACTOR}.entropy_coeff": "0.05", "trainer.total_training_steps": "240", "trainer.save_freq": "80",
                "actor_rollout_ref.model.target_modules": "['q_proj','v_proj']", "trainer.device": "'cpu'",
                f"{ACTOR}.checkpoint.save_lora_only": "false", f"{ACTOR}.{TYPE}": "'fp32'",
            },
        ),
        (
            {**GRPO, "loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.02}, "grpo", "cpu",
            {
                "algorithm.norm_adv_by_std_in_grpo": "false", f"{ACTOR}.loss_agg_mode": "'seq-mean-token-sum-norm'",
                f"{ACTOR}.loss_scale_factor": "24", f"{ACTOR}.use_kl_loss": "true", f"{ACTOR}.kl_loss_coef": "0.02",
                f"{ACTOR}.kl_loss_type": "'low_var_kl'",
            },
        ),
        (
            {**GRPO, "loss_type": "grpo"}, "grpo", "cuda",
            {
                f"{ACTOR}.loss_agg_mode": "'seq-mean-token-mean'", f"{ROLLOUT}.name": "'vllm'",
                f"{ROLLOUT}.dtype": "'bfloat16'", f"{ACTOR}.{TYPE}": "'bf16'",
                "trainer.n_gpus_per_node": "2", f"{ACTOR}.ppo_micro_batch_size_per_gpu": "24",
                f"{ROLLOUT}.gpu_memory_utilization": "0.5", f"{ACTOR}.checkpoint.save_lora_only": "true",
            },
        ),
        (
            PPO, "ppo", "cpu",
            {
                "algorithm.adv_estimator": "'gae'", "algorithm.lam": "0.95", "critic.optim.lr": "0.0001",
                "critic.ppo_epochs": "3", f"{ACTOR}.ppo_epochs": "3", f"{ACTOR}.clip_ratio": "0.1",
                f"{ACTOR}.clip_ratio_high": "0.1", "critic.optim.weight_decay": "0.0",
            },
        ),
    ],
)  # fmt: skip
def test_commands(tmp_path, settings, method, device, expected):
    found = options(run_of(tmp_path, settings, method, device, n=2 if device == "cuda" else 1))
    assert {key: found.get(key) for key in expected} == expected
    assert ("trainer.device" in found) == (device == "cpu") and ("critic.model.path" in found) == (method == "ppo")


def test_values_as_hydra_reads_them():
    values = {"a": None, "b": True, "c": [1, "x y"], "d": 1e-05, "e": Path("/it's here"), "+f": "back\\slash"}
    assert overrides(values) == [
        "a=null", "b=true", "c=[1,'x y']", "d=1e-05", r"e='/it\'s here'", r"+f='back\\slash'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "micro", "group", "ranks", "expected"),
    [(8, 8, 6, 1, 48), (8, 4, 6, 1, 24), (8, 8, 6, 2, 24), (8, 8, 1, 8, 1), (6, 4, 3, 2, 3)],
)
def test_micro_batches_divide_a_ranks_share(batch, micro, group, ranks, expected):
    settings = {"batch_size": batch, "micro_batch_size": micro, "group_size": group}
    assert micro_samples(settings, ranks) == expected
    assert batch * group // ranks % expected == 0


def test_another_version_of_verl_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.0")
    with pytest.raises(RuntimeError, match="verl 0.10.0 is installed"):
        check_version()


# --- checkpoints ------------------------------------------------------------------------------------------------------

PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def mesh(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def checkpoint(folder: Path, ranks: list[dict]) -> Path:
    folder.mkdir()
    (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": len(ranks)}))
    for i, weights in enumerate(ranks):
        torch.save(weights, folder / f"model_world_size_{len(ranks)}_rank_{i}.pt")
    return folder


def test_an_adapter_is_taken_from_a_checkpoint_exactly(tmp_path, mesh):
    lora, base = torch.rand(4, 6), torch.rand(6, 6)
    folder = checkpoint(
        tmp_path / "actor",
        [
            {
                f"{PREFIX}.lora_A.default.weight": distribute_tensor(lora, mesh, [Shard(0)]),
                f"{PREFIX}.base_layer.weight": distribute_tensor(base, mesh, [Shard(0)]),
            }
        ],
    )
    weights = read_checkpoint(folder)
    assert torch.equal(adapter_weights(weights)[f"{PREFIX}.lora_A.weight"], lora) and len(adapter_weights(weights)) == 1
    (tmp_path / "model").mkdir()
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({name: base, "model.norm.weight": torch.ones(2)}, tmp_path / "model" / "model.safetensors")
    assert moved_base_weight(weights, tmp_path / "model") is None
    save_file({name: base + 1e-6}, tmp_path / "model" / "model.safetensors")
    assert moved_base_weight(weights, tmp_path / "model") == name


class Part:
    """A rank's part of a weight that is cut along an axis, as a distributed tensor shows it."""

    def __init__(self, local: torch.Tensor, axis: int):
        self.local, self.placements = local, (Shard(axis),)

    def to_local(self) -> torch.Tensor:
        return self.local


@pytest.mark.parametrize("axis", [0, 1])
def test_parts_of_several_ranks_are_put_together(axis):
    weight = torch.rand(5, 4)
    assert torch.equal(
        whole([Part(part, axis) for part in weight.split([3, 2] if axis == 0 else [1, 3], axis)]), weight
    )


def test_a_checkpoint_makes_no_objects_but_tensors(tmp_path):
    folder = checkpoint(tmp_path / "actor", [{"a": Path("x")}])
    with pytest.raises(Exception, match="[Ww]eights.only"):
        read_checkpoint(folder)
    (folder / "model_world_size_1_rank_0.pt").unlink()
    with pytest.raises(UserError, match="model_world_size_1_rank_0.pt: is missing from verl's checkpoint"):
        read_checkpoint(folder)


# --- logs -------------------------------------------------------------------------------------------------------------


def logged(run: EngineRun, attempt: int, *lines: dict) -> None:
    run.logs.mkdir(exist_ok=True)
    text = "".join(json.dumps({"step": line.pop("step"), "data": line}) + "\n" for line in lines)
    (run.logs / f"verl.{attempt}.jsonl").write_text(text + '{"step": 9, "da', encoding="utf-8")


def test_what_verl_logs_under_our_names(tmp_path):
    run = run_of(tmp_path, PPO, "ppo")
    run.door.write_text(json.dumps({"unit": 100.0}))
    logged(run, 1, {"step": 1, "actor/lr": 1.0}, {"step": 2, "actor/lr": 9.0, "critic/values/mean": 0.5})
    logged(run, 2, {"step": 2, "actor/lr": 2.0, "actor/pg_loss": None, "critic/values/mean": 0.25, "other": 1})
    found = {(each.step, each.metric): each.value for each in verl.Verl().logged(run)}
    assert found == {(1, "learning_rate"): 1.0, (2, "learning_rate"): 2.0, (2, "value"): 25.0}


@pytest.mark.parametrize(
    ("off", "fault"),
    [
        ([1e-9, 1e-7], None),
        ([1e-9, 0.2], "differ by up to 0.2, computed in float32"),
        ([], "logged no training/rollout"),
    ],
)
def test_weights_that_do_not_reach_the_rollout_are_one_line(tmp_path, off, fault):
    run = run_of(tmp_path, GRPO)
    logged(run, 1, *({"step": i, verl.OFF: value} for i, value in enumerate(off, 1)))
    if fault is None:
        return verl.check_rollout_policy(run)
    with pytest.raises(UserError, match=fault):
        verl.check_rollout_policy(run)


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> Sampler:
    folder = tmp_path_factory.mktemp("byte")
    byte_manifest(folder)
    return Sampler(str(folder / "model"), seed=3)


def test_replies_are_drawn_with_the_models_own_probabilities_whatever_is_asked_beside(sampler):
    long, short = list(range(10, 60)), list(range(30, 42))
    requests = [Request(long, 0.7, 6), Request(short, 0.7, 4), Request(long, 0.7, 6)]
    together = sampler.sample(requests, step=5)
    assert together[0].tokens != together[2].tokens  # each of a group draws for itself
    alone = sampler.sample([requests[1]], step=6) and sampler.sample([requests[1]], step=5)
    assert alone[0].tokens == together[1].tokens
    for request, reply in zip(requests, together, strict=True):
        assert 0 < len(reply.tokens) <= request.max_tokens
        ids = torch.tensor([request.prompt + reply.tokens])
        with torch.no_grad():
            log_probs = (sampler.model(input_ids=ids).logits[0] / request.temperature).log_softmax(-1)
        expected = [float(log_probs[len(request.prompt) - 1 + n, token]) for n, token in enumerate(reply.tokens)]
        assert reply.log_probs == pytest.approx(expected, abs=1e-5)


def test_a_reply_ends_with_its_stop_token(sampler):
    (stop,) = sampler.stops
    replies = sampler.sample([Request([10 + i], 1.0, 60) for i in range(40)], step=7)
    ended = [reply.tokens for reply in replies if len(reply.tokens) < 60]
    assert ended and all(tokens[-1] == stop and stop not in tokens[:-1] for tokens in ended)
