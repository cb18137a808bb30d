"""What an engine is asked for and would not do is refused by name, before anything trains."""

import json
from pathlib import Path

import pytest

from hidden_rule.core import engines
from hidden_rule.core.engines import ENVIRONMENTS, write_stamp
from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.core.sources import dependencies
from hidden_rule.experiment.config import load_config
from hidden_rule.experiment.display import display_names
from hidden_rule.experiment.engine_checks import check_engine, check_installed, settings_fault

ROOT = Path(__file__).resolve().parents[2]
FREE = "decoding: free\n"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def loaded(tmp_path, text: str) -> dict:
    path = tmp_path / "overlay.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(["config.yaml", path])


def refusal(tmp_path, text: str) -> str:
    with pytest.raises(UserError) as error:
        loaded(tmp_path, text)
    said = str(error.value)
    assert "\n" not in said and said.startswith(str(tmp_path / "overlay.yaml"))
    return said.partition("overlay.yaml: ")[2]


@pytest.mark.parametrize(
    ("condition", "shared", "said"),
    [
        (
            "{method: grpo, engine: ver}",
            FREE,
            "x.engine: 'ver' is not one of trl, verl, openrlhf; did you mean verl?",
        ),
        ("{engine: verl}", FREE, "conditions.x.method: is missing, and engine is given; add method: sft, grpo"),
        ("{reference: constant, engine: verl}", FREE, "conditions.x.engine: does not go with reference"),
        (
            "{method: sft, engine: verl}",
            FREE,
            "x.engine: verl does not train sft here; leave engine out, or take",
        ),
        ("{method: dpo, engine: openrlhf}", FREE, "conditions.x.engine: openrlhf does not train dpo here"),
        ("{method: ppo}", FREE, "conditions.x.method: is ppo, which trl does not train here; add engine: verl"),
        (
            "{method: grpo, engine: verl}",
            "",
            "x.engine: verl explores freely, and decoding is structured; set",
        ),
    ],
)
def test_combinations_that_do_not_exist(tmp_path, condition, shared, said):
    assert said in refusal(tmp_path, f"{shared}conditions:\n  x: {condition}\n")


@pytest.mark.parametrize("engine", ["verl", "openrlhf"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}", "patience: is 50, and the engine {} does not stop early; write patience: 0 into the condition's with"),
        ("{patience: 0, max_minutes: 5}", "max_minutes: is 5"),
        ("{patience: 0, use_vllm: true}", "use_vllm: is true, and the engine {} chooses its rollouts itself"),
        ("{patience: 0, curriculum: {by: hidden_rule}}", "curriculum: the engine {} has no curriculum; set by: none"),
        ("{patience: 0, loss_type: bnpo}", "loss_type: the engine {} has no bnpo; take"),
        (
            "{patience: 0, scale_rewards: batch}",
            "scale_rewards: the engine {} does not scale over a batch; take",
        ),
        (
            "{patience: 0, batch_size: 12, micro_batch_size: 4}",
            "batch_size: is 12, {} trains on whole batches",
        ),
    ],
)
def test_settings_that_an_engine_would_not_honour(tmp_path, engine, given, said):
    text = f"{FREE}model: {{dtype: bfloat16}}\nconditions:\n  x: {{method: grpo, engine: {engine}, with: {given}}}\n"
    path = tmp_path / "overlay.yaml"
    path.write_text(text.replace(", with: {}", ""), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_config(["config.yaml", path])
    assert said.format(engine) in str(error.value)


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ("lora: {dropout: 0.1}", "lora.dropout: is 0.1, and the engine verl has none; set it to 0"),
        ("launch: {strategy: deepspeed_zero3}", "launch.strategy: verl shards by FSDP; take fsdp"),
    ],
)
def test_what_all_trainings_share(tmp_path, shared, said):
    condition = "conditions:\n  x: {method: grpo, engine: verl, with: {patience: 0}}\n"
    assert said in refusal(tmp_path, f"{FREE}{shared}\n{condition}")


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ("model: {dtype: float16}", "model.dtype: is float16, and the engine openrlhf computes in bfloat16 or float32"),
        ("launch: {strategy: fsdp}", "launch.strategy: is fsdp, and the engine openrlhf shards its optimizer alone"),
        ("lora: {dropout: 0.1}", "lora.dropout: is 0.1, and the engine openrlhf has none"),
    ],
)
def test_what_openrlhf_cannot_do(tmp_path, shared, said):
    condition = "conditions:\n  x: {method: grpo, engine: openrlhf, with: {patience: 0}}\n"
    assert said in refusal(tmp_path, f"{FREE}{shared}\n{condition}")


def test_a_penalty_towards_the_base_model_is_no_penalty_towards_a_start():
    settings = {"beta": 0.1, "scale_rewards": "group", "loss_type": "dapo"}
    fault = settings_fault({"settings": settings, "start_from": "sft", "method": "grpo"}, "verl")
    assert fault and fault[0] == ("beta",) and "towards the base model" in fault[1]
    assert settings_fault({"settings": settings, "start_from": None, "method": "grpo"}, "verl") is None


def test_what_engines_do_train_passes(tmp_path):
    config = loaded(
        tmp_path,
        f"{FREE}conditions:\n  grpo_verl: {{method: grpo, engine: verl, with: {{patience: 0}}}}\n"
        "  ppo_verl: {method: ppo, engine: verl}\n  sft_then_ppo: {method: ppo, engine: verl, start_from: sft}\n",
    )
    for name in ("grpo_verl", "ppo_verl", "sft_then_ppo", "grpo"):
        check_engine(config, name)
    names = display_names(config["conditions"])
    assert names["grpo_verl"] == "GRPO (verl)" and names["ppo_verl"] == "PPO (verl)"
    assert names["sft_then_ppo"] == "sft_then_ppo"  # its name does not say the engine


def test_display_names_of_engines():
    conditions = {
        "sft": {"method": "sft"},
        "sft_then_grpo_verl": {"method": "grpo", "start_from": "sft", "engine": "verl"},
        "mine_verl": {"method": "grpo", "engine": "verl"},
        "grpo": {"method": "grpo", "engine": "verl"},
    }
    names = {"sft": "SFT", "sft_then_grpo_verl": "SFT → GRPO (verl)", "mine_verl": "mine_verl", "grpo": "grpo"}
    assert display_names(conditions) == names


@pytest.fixture
def verl(tmp_path, monkeypatch):
    """An environment of verl below a folder of the test's, with a lock of its own."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "verl.txt").write_text("verl==0.9.1\n")
    monkeypatch.setattr(engines, "ROOT", tmp_path)
    monkeypatch.setattr(engines, "FOLDER", tmp_path / ".engines")
    return ENVIRONMENTS["verl"]


def test_an_engine_that_is_not_installed_as_its_lock_says_is_one_line(verl, tmp_path):
    config = {"conditions": {"a": {}, "b": {"method": "grpo"}, "c": {"method": "grpo", "engine": "verl"}}}
    config["evaluation"] = {"engine": "transformers"}
    with pytest.raises(UserError, match="config.yaml: conditions.c.engine: verl is not installed; run make setup-verl"):
        check_installed(config)
    verl.python.parent.mkdir(parents=True)
    write_stamp("verl", "envs/verl.txt")
    assert verl.fault() == ("verl is not installed", "run make setup-verl")  # its interpreter was moved away
    verl.python.touch()
    assert verl.fault() is None
    check_installed(config)
    content = verl.content()
    (tmp_path / "envs" / "verl.txt").write_text("verl==0.9.2\n")
    assert "as envs/verl.txt was before it was changed" in verl.fault()[0] and verl.content() == content
    verl.stamp.write_text("{")
    assert verl.fault() == (".engines/verl/installed.json is damaged", "run make setup-verl") and verl.content() == ""
    verl.stamp.write_text(json.dumps({"lock": "envs/gone.txt", "sha256": content}))
    assert verl.fault() is not None


def test_results_follow_the_code_that_runs_in_verls_processes():
    modules = {"verl_door", "verl_start", "verl_plugin", "verl_cpu", "verl_rollout", "reward_door", "openrlhf_replies"}
    found = {name.rpartition(".")[2] for name in dependencies(WORKFLOW / "scripts" / "train_verl.py")}
    assert modules <= found
