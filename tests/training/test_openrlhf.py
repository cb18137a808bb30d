"""OpenRLHF as an engine, as far as it can be told without its environment: commands, replies, adapters, checkpoints."""

import argparse
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.core.sources import dependencies
from hidden_rule.models.base import BaseModel
from hidden_rule.models.merging import merge_adapter
from hidden_rule.training.engines import openrlhf
from hidden_rule.training.engines.openrlhf_adapters import join_adapters, new_weights, write_new_start
from hidden_rule.training.engines.openrlhf_command import (
    MOST,
    Files,
    flags,
    logical_gpus,
    micro_samples,
    train_command,
    warmup_ratio,
)
from hidden_rule.training.engines.openrlhf_patches import base_checksums, check_versions, merged_layers
from hidden_rule.training.engines.openrlhf_replies import Replies, sample_seed
from hidden_rule.training.engines.run import EngineRun
from hidden_rule.training.job import TrainingData, TrainingJob, TrainingOutput
from hidden_rule.training.launch import Place
from tiny_models import padded_batch, random_rows, tiny_model

SITE = Path(openrlhf.__file__).parent / "openrlhf_site"
COMMON = {
    "learning_rate": 3e-4,
    "warmup_steps": 10,
    "batch_size": 8,
    "micro_batch_size": 4,
    "group_size": 6,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": False,
    "temperature": 0.9,
    "max_new_tokens": 24,
    "beta": 0.0,
}
GRPO = {**COMMON, "loss_type": "dapo", "scale_rewards": "group", "entropy_coef": 0.05}


def run_of(folder: Path, settings: dict, method: str = "grpo", device: str = "cpu", n: int = 1, **job) -> EngineRun:
    made = TrainingJob(
        condition="c",
        seed=7,
        base=BaseModel(folder / "manifest.json", "auto"),
        lora={"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]},
        settings=settings,
        data=TrainingData(folder, folder, folder),
        output=TrainingOutput(folder, folder, folder),
        **{"start_from": None, **job},
    )
    place = Place(folder / "log", threads=4, gpus=n, processes=n)
    return EngineRun(made, method, place, folder, 240, 80, 150, "bfloat16", device)


def options(command: list[str]) -> dict:
    """The options of a command: a text, several as a list, True without a value."""
    found: dict = {}
    for word in command:
        if word.startswith("--"):
            name, found[word[2:]] = word[2:], []
        elif found:
            found[name].append(word)
    return {name: True if not words else words[0] if len(words) == 1 else words for name, words in found.items()}


FILES = Files(*(Path(f"/f/{name}") for name in ("model", "prompts.jsonl", "agent.py", "ckpt", "trained", "log.jsonl")))


def test_command_of_grpo_on_a_cpu(tmp_path):
    command = train_command(run_of(tmp_path, GRPO), Path("/e/python"), FILES)
    assert command[:3] == ["/e/python", "-m", "openrlhf.cli.train_ppo_ray"]
    assert options(command[3:]) == {
        "actor.model_name_or_path": "/f/model",
        "ds.param_dtype": "bf16",
        "ds.attn_implementation": "sdpa",
        "ds.zero_stage": "2",
        "ds.lora.rank": "16",
        "ds.lora.alpha": "32",
        "ds.lora.target_modules": ["q_proj", "v_proj"],
        "train.seed": "7",
        "train.agent_func_path": "/f/agent.py",
        "ckpt.path": "/f/ckpt",
        "ckpt.output_dir": "/f/trained",
        "ckpt.save_steps": "80",  # an epoch's
        "ckpt.max_num": "2",
        "ckpt.load_enable": True,
        "logger.tensorboard_dir": "/f/log.jsonl",
        "data.prompt_dataset": "/f/prompts.jsonl",
        "data.input_key": "input",
        "data.label_key": "label",
        "data.max_len": "174",  # the longest prompt and reply
        "rollout.max_new_tokens": "24",
        "rollout.temperature": "0.9",
        "rollout.batch_size": "8",
        "rollout.n_samples_per_prompt": "6",
        "rollout.micro_batch_size": "24",
        "train.batch_size": "48",
        "train.micro_batch_size": "24",
        "train.max_epochs": "1",
        "train.num_episodes": "1",
        "actor.adam.lr": "0.0003",
        "actor.adam.betas": ["0.9", "0.999"],
        "actor.lr_scheduler": "linear",
        "actor.lr_warmup_ratio": str(9.5 / 240),
        "actor.max_norm": "1.0",
        "algo.advantage.estimator": "group_norm",
        "actor.loss_agg_mode": "token-mean",
        "algo.kl.init_coef": "0.0",
        "algo.kl.estimator": "k1",
        "actor.entropy_coef": "0.05",
        "algo.advantage.is_correction_level": "token",
        "reward.clip_range": ["-1000000000", "1000000000"],
        "vllm.num_engines": "1",
        "vllm.tensor_parallel_size": "1",
        "vllm.enforce_eager": True,
        "vllm.sync_backend": "gloo",
        **{f"{model}.num_nodes": "1" for model in ("actor", "ref", "critic", "reward")},
        **{f"{model}.num_gpus_per_node": "1" for model in ("actor", "ref", "critic", "reward")},
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scale_rewards": "none"}, {"algo.advantage.estimator": "dr_grpo"}),
        ({"loss_type": "grpo"}, {"actor.loss_agg_mode": "seq-mean-token-mean"}),
        ({"gradient_checkpointing": True}, {"actor.gradient_checkpointing_enable": True}),
        ({"beta": 0.04}, {"algo.kl.init_coef": "0.04", "algo.kl.use_loss": True, "algo.kl.estimator": "k3"}),
        ({"warmup_steps": 0}, {"actor.lr_warmup_ratio": "0.0"}),
        ({"entropy_coef": 0.0}, {"actor.entropy_coef": "0.0"}),  # logged all the same
    ],
)
def test_settings_reach_the_command(tmp_path, changes, expected):
    found = options(train_command(run_of(tmp_path, {**GRPO, **changes}), Path("python"), FILES))
    assert {name: found.get(name) for name in expected} == expected


def test_an_adapter_of_the_last_layers_is_named_layer_by_layer(tmp_path):
    run = run_of(tmp_path, GRPO)
    run = replace(run, job=replace(run.job, lora={**run.job.lora, "last_layers": 1}))
    run.start.mkdir()
    (run.start / "adapter_config.json").write_text('{"target_modules": ["29.self_attn.q_proj", "29.self_attn.v_proj"]}')
    found = options(train_command(run, Path("python"), FILES))
    assert found["ds.lora.target_modules"] == ["29.self_attn.q_proj", "29.self_attn.v_proj"]


def test_command_on_gpus_shares_them_in_turns(tmp_path):
    run = run_of(tmp_path, GRPO, device="cuda", n=4)
    found = options(train_command(run, Path("python"), FILES))
    expected = {
        "train.colocate_all": True,
        "vllm.enable_sleep": True,
        "ds.enable_sleep": True,
        "vllm.sync_backend": "nccl",
        "vllm.num_engines": "4",
        "actor.num_gpus_per_node": "4",
        "train.micro_batch_size": "12",  # of 48 replies each of 4 ranks has 12
    }
    assert {name: found.get(name) for name in expected} == expected
    assert logical_gpus(run) == 4


def test_ppo_has_a_critic_and_gae(tmp_path):
    settings = {**COMMON, "gae_lambda": 0.95, "clip": 0.1, "critic_learning_rate": 1e-5, "updates": 2}
    run = run_of(tmp_path, settings, method="ppo")
    found = options(train_command(run, Path("python"), FILES))
    expected = {
        "critic.model_name_or_path": "/f/model",
        "algo.advantage.estimator": "gae",
        "algo.advantage.lambd": "0.95",
        "algo.advantage.gamma": "1.0",
        "critic.adam.lr": "1e-05",
        "critic.lr_scheduler": "linear",
        "critic.value_clip": "1000000000",
        "actor.eps_clip": "0.1",
        "train.max_epochs": "2",
        "actor.lr_warmup_ratio": str(19.5 / 480),  # OpenRLHF counts updates
    }
    assert {name: found.get(name) for name in expected} == expected
    assert logical_gpus(run) == 3  # actor, critic, vLLM


def test_flags():
    values = {"a": 1, "b": True, "c": False, "d": None, "e": [1, "x"], "f": 0.0}
    assert flags(values) == ["--a", "1", "--b", "--e", "1", "x", "--f", "0.0"]


@pytest.mark.parametrize(
    ("batch", "group", "micro", "ranks", "expected"),
    [(8, 8, 8, 1, 64), (8, 8, 2, 1, 16), (8, 6, 4, 4, 12), (8, 6, 3, 1, 6), (4, 2, 4, 8, 1)],
)
def test_a_micro_batch_divides_a_ranks_share(batch, group, micro, ranks, expected):
    settings = {"batch_size": batch, "group_size": group, "micro_batch_size": micro}
    found = micro_samples(settings, ranks)
    assert found == expected
    assert (batch * group // ranks) % found == 0 and found <= micro * group


@pytest.mark.parametrize(("warmup", "n_steps"), [(0, 240), (1, 3), (10, 240), (20, 640), (7, 7), (100, 101)])
def test_openrlhf_makes_the_same_warmup_of_its_ratio(warmup, n_steps):
    assert math.ceil(n_steps * warmup_ratio(warmup, n_steps)) == warmup  # its own formula


WORDS = {1: "{a}", 2: " b", 3: "<|end|>", 4: "\n", 9: "<eos>"}


@pytest.mark.parametrize(
    ("ids", "closing", "expected"),
    [
        ([1, 2, 9], "", ("{a} b", 3)),
        ([1, 2], "", ("{a} b", 2)),  # cut off
        ([9], "", ("", 1)),  # nothing
        ([1, 9, 2, 9], "", ("{a}", 2)),  # what follows the end is no part of it
        ([1, 3, 4, 9], "<|end|>", ("{a}", 4)),  # what the template closes a turn with
        ([], "", ("", 0)),
    ],
)
def test_a_reply_is_read_up_to_its_end(ids, closing, expected):
    def decode(tokens, skip_special_tokens):
        assert skip_special_tokens
        return "".join(WORDS[token] for token in tokens)

    assert Replies(0, [9], closing).read(ids, decode) == expected


def test_samples_have_seeds_of_their_own():
    seeds = {sample_seed(seed, place, sample) for seed in (0, 1) for place in range(20) for sample in range(8)}
    assert len(seeds) == 2 * 20 * 8 and all(0 <= seed < 2**31 for seed in seeds)
    assert sample_seed(1, 23, 4) == sample_seed(1, 23, 4) != sample_seed(1, 2, 34)


@pytest.fixture
def two_adapters(tmp_path):
    """Folders of a trained adapter and of another one that was trained on the model with the first merged in."""
    for seed, name in enumerate(("first", "second")):
        model = tiny_model("llama", seed=0)
        torch.manual_seed(seed)
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(tmp_path / name)
    return tmp_path / "first", tmp_path / "second"


def logits_of(model) -> torch.Tensor:
    import random

    batch = padded_batch(random_rows(random.Random(0), 3, 2, 4), "right")
    device = next(model.parameters()).device
    with torch.no_grad():
        return model.eval()(**{k: torch.as_tensor(v, device=device) for k, v in batch.items() if k != "labels"}).logits


def base_of_tiny():
    return tiny_model("llama", seed=0).unload()


def test_joined_adapters_are_the_merged_start_and_the_adapter_trained_on_it(two_adapters, tmp_path):
    first, second = two_adapters
    join_adapters(first, second, tmp_path / "joined")
    merged = PeftModel.from_pretrained(base_of_tiny(), first).merge_and_unload()
    expected = logits_of(PeftModel.from_pretrained(merged, second))
    found = logits_of(PeftModel.from_pretrained(base_of_tiny(), tmp_path / "joined"))
    alone = logits_of(PeftModel.from_pretrained(base_of_tiny(), second))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, alone, atol=1e-2)  # the first one matters
    config = json.loads((tmp_path / "joined" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)


def test_adapters_of_different_scales_are_not_joined(two_adapters, tmp_path):
    first, second = two_adapters
    path = second / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 9}))
    with pytest.raises(ValueError, match="scales"):
        join_adapters(first, second, tmp_path / "joined")


def test_a_new_adapter_on_a_start_changes_nothing_yet(two_adapters, tmp_path):
    first, _ = two_adapters
    write_new_start(first, 3, tmp_path / "new")
    weights = load_file(tmp_path / "new" / "adapter_model.safetensors")
    assert weights.keys() == load_file(first / "adapter_model.safetensors").keys()
    assert all(bool(weight.any()) == ("lora_A" in name) for name, weight in weights.items())
    again, other = new_weights(weights, 3), new_weights(weights, 4)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not any(torch.equal(weights[name], other[name]) for name in weights if "lora_A" in name)
    plain = logits_of(base_of_tiny())
    assert torch.equal(logits_of(PeftModel.from_pretrained(base_of_tiny(), tmp_path / "new")), plain)


def test_negative_numbers_are_no_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--reward.clip_range", nargs=2, type=float)
    parser.parse_args(flags({"reward.clip_range": [-MOST, MOST]}))


@pytest.mark.parametrize("family", ["llama", "qwen", "gemma"])
def test_vllm_is_sent_merged_layers_by_the_base_models_names(family):
    model, base = tiny_model(family), tiny_model(family).unload()
    plain = dict(base.named_parameters())
    sent = dict(merged_layers(model))
    assert len(sent) == 3 * 4  # layers, of which q, k, v and o have an adapter
    assert sent.keys() <= plain.keys()
    with torch.no_grad():
        for name, layer in sent.items():
            assert layer.shape == plain[name].shape and layer.dtype == plain[name].dtype
            assert not torch.equal(layer.data, plain[name])
            plain[name].copy_(layer.data)
    assert torch.allclose(logits_of(base), logits_of(model), atol=1e-5)


def test_merging_is_rounded_once_to_the_type_of_the_base():
    model = tiny_model("llama", dtype=torch.bfloat16)
    name, layer = merged_layers(model)[0]
    module = model.get_base_model().get_submodule(name.removesuffix(".weight"))
    a, b = (part["default"].weight.float() for part in (module.lora_A, module.lora_B))
    exact = module.get_base_layer().weight.float() + 2.0 * b @ a  # alpha 8, r 4
    assert torch.equal(layer.data, exact.bfloat16())
    assert len(layer.parts) == 3  # what ZeRO-3 has to gather: the base's weight, A, B


def test_a_changed_weight_of_the_base_is_seen():
    model = tiny_model("llama", dtype=torch.bfloat16)
    before = base_checksums(model)
    trained = get_peft_model_state_dict(model)
    assert len(before) > 10 and not any("lora_" in name for name in before)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(1.0)
    assert base_checksums(model) == before and trained
    with torch.no_grad():
        model.get_base_model().lm_head.weight[3, 4] += 1.0
    assert base_checksums(model) != before


def test_merged_start_computes_what_base_and_adapter_do(two_adapters):
    first, _ = two_adapters
    merged = merge_adapter(base_of_tiny(), first)
    expected = logits_of(PeftModel.from_pretrained(base_of_tiny(), first))
    assert torch.allclose(logits_of(merged), expected, atol=1e-5)


def write_checkpoint(run: EngineRun, model: str, step: int, whole: bool = True) -> Path:
    folder = run.checkpoints / model / f"global_step{step}"
    folder.mkdir(parents=True)
    (folder / "weights.pt").write_text("w")
    if whole:
        (folder / "metric.json").write_text("{}")
    (run.checkpoints / model / "latest").write_text(f"global_step{step}")
    return folder


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("global_step*")}


def test_a_run_goes_on_from_the_newest_whole_checkpoint(tmp_path):
    run = run_of(tmp_path, GRPO)
    engine = openrlhf.OpenRLHF()
    assert engine.saved(run) == 0
    write_checkpoint(run, "_actor", 2)
    write_checkpoint(run, "_actor", 4)
    write_checkpoint(run, "_actor", 6, whole=False)  # killed while it was written
    assert engine.saved(run) == 4
    openrlhf.choose_checkpoint(run)
    assert names_of(run.checkpoints / "_actor") == {"global_step4"}
    assert (run.checkpoints / "_actor" / "latest").read_text() == "global_step4"
    openrlhf.finished(run).write_text("")
    assert engine.saved(run) == run.n_steps


def test_the_last_checkpoint_is_none_to_go_on_from(tmp_path):
    run = run_of(tmp_path, GRPO)
    for step in (160, 240):
        write_checkpoint(run, "_actor", step)
    assert openrlhf.OpenRLHF().saved(run) == 160
    openrlhf.choose_checkpoint(run)
    assert names_of(run.checkpoints / "_actor") == {"global_step160"}


def test_actor_and_critic_go_on_from_the_same_step(tmp_path):
    run = run_of(tmp_path, GRPO, method="ppo")
    write_checkpoint(run, "_actor", 2)
    write_checkpoint(run, "_critic", 2)
    write_checkpoint(run, "_actor", 4)
    write_checkpoint(run, "_critic", 4, whole=False)
    assert openrlhf.OpenRLHF().saved(run) == 2
    openrlhf.choose_checkpoint(run)
    for model in ("_actor", "_critic"):
        assert names_of(run.checkpoints / model) == {"global_step2"}
        assert (run.checkpoints / model / "latest").read_text() == "global_step2"


def test_without_a_whole_checkpoint_a_run_starts_anew(tmp_path):
    run = run_of(tmp_path, GRPO)
    write_checkpoint(run, "_actor", 2, whole=False)
    openrlhf.choose_checkpoint(run)
    assert not (run.checkpoints / "_actor").exists()  # OpenRLHF would take the folder for a checkpoint


def test_logs_of_attempts(tmp_path):
    run = run_of(tmp_path, {**GRPO, "beta": 0.1})
    run.logs.mkdir()
    run.door.write_text('{"unit": 100.0}')
    lines = [{"step": 1, "policy_loss": 0.5, "kl": 0.1, "vllm_kl": 1e-5}, {"step": 2, "policy_loss": 0.6}]
    (run.logs / "openrlhf.1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "po')
    again = {
        "step": 2,
        "policy_loss": 0.7,
        "actor_grad_norm": 2.0,
        "entropy_loss": 1.5,
        "actor_lr": 1e-3,
        "values": 0.5,
    }
    (run.logs / "openrlhf.10.jsonl").write_text(json.dumps(again) + "\n")
    found = {(each.step, each.metric): each.value for each in openrlhf.OpenRLHF().logged(run)}
    assert found == {
        (1, "loss"): 0.5,
        (1, "kl"): 0.1,
        (2, "loss"): 0.7,
        (2, "grad_norm"): 2.0,
        (2, "entropy"): 1.5,
        (2, "learning_rate"): 1e-3,
        (2, "value"): 50.0,  # points
    }


def test_without_a_reference_there_is_no_kl(tmp_path):
    run = run_of(tmp_path, GRPO)
    run.logs.mkdir()
    run.door.write_text('{"unit": 1.0}')
    (run.logs / "openrlhf.1.jsonl").write_text('{"step": 1, "policy_loss": 0.5, "kl": 0.0}\n')
    assert [each.metric for each in openrlhf.OpenRLHF().logged(run)] == ["loss"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([1e-5, -2e-5, 3e-5], None),
        ([0.0, 0.5, 0.0], None),  # one step off: rounding may do that
        ([0.1, -0.2, 0.3], "differ by 0.2 nats"),
        ([math.nan, math.nan, math.nan], "differ by nan"),
        ([], "no vllm_kl"),
    ],
)
def test_weights_have_to_reach_vllm(values, fault):
    logs = {step: {"vllm_kl": value} for step, value in enumerate(values, 1)}
    if fault is None:
        openrlhf.check_rollout_policy(logs, "train.log")
    else:
        with pytest.raises(UserError, match=fault):
            openrlhf.check_rollout_policy(logs, "train.log")


def test_changes_are_for_the_versions_they_were_written_for():
    with pytest.raises(RuntimeError, match="make setup-openrlhf"):
        check_versions({"peft": "0.0.1"})


def test_results_follow_the_code_that_runs_in_openrlhfs_processes():
    modules = {"openrlhf_agent", "openrlhf_replies", "openrlhf_patches", "openrlhf_cpu_patches", "reward_door"}
    found = {name.rpartition(".")[2] for name in dependencies(WORKFLOW / "scripts" / "train_openrlhf.py")}
    assert modules <= found


FAKE = """
class TensorboardLogger:
    def __init__(self, args):
        raise AssertionError("not replaced")
"""
TRY = """
import sys
from types import SimpleNamespace
from openrlhf.utils.logging_utils import TensorboardLogger
logger = TensorboardLogger(SimpleNamespace(logger=SimpleNamespace(tensorboard_dir=sys.argv[1])))
logger.log_train(3, {"policy_loss": 0.25, "generated_samples": ["text", 1.0]})
logger.close()
"""


def try_patched(folder: Path, version: str) -> subprocess.CompletedProcess:
    """A process with a package `openrlhf` of a version, on whose import our changes are made."""
    package = folder / "openrlhf" / "utils"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").write_text("")
    (package / "logging_utils.py").write_text(FAKE)
    for name, its in {"openrlhf": version, "deepspeed": "0.19.6", "peft": "0.21.2"}.items():
        (folder / f"{name}-{its}.dist-info").mkdir()
        (folder / f"{name}-{its}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {its}\n")
    environment = {**os.environ, "PYTHONPATH": f"{SITE}:{folder}:{SITE.parents[3]}"}
    command = [sys.executable, "-c", TRY, str(folder / "log.jsonl")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_module_is_changed_when_it_is_imported(tmp_path):
    done = try_patched(tmp_path, "0.11.2")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 3, "policy_loss": 0.25}


def test_another_version_is_refused(tmp_path):
    done = try_patched(tmp_path, "0.11.3")
    assert done.returncode != 0 and "make setup-openrlhf" in done.stderr.splitlines()[-1]
