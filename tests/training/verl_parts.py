"""Parts of verl that need no Ray, run by the interpreter of its environment on a run's folder; prints JSON.

    .engines/verl/bin/python verl_parts.py FOLDER COMMAND.json

What a worker of verl does, in one process: its configuration of our command, its data set on our prompts, our reward
manager through its loader, its FSDP engine with our schedule, a checkpoint, and our rollout with the engine's weights.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import torch
import verl  # noqa: F401 # loads our changes
from hydra import compose, initialize_config_module
from tensordict import TensorDict
from verl.protocol import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils import hf_tokenizer
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine import EngineRegistry
from verl.workers.rollout.base import get_rollout_class
from verl.workers.rollout.replica import RolloutReplicaRegistry

from hidden_rule.training.engines.verl_cpu import HFServer

N_STEPS = 4


def composed(words: list[str]):
    """verl's configuration of a command."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", [word for word in words[3:] if not word.startswith("hydra.")])
    for part in (config.actor_rollout_ref.actor, config.critic):
        part.optim.total_training_steps = N_STEPS  # as the trainer does
    return config


def data_set(config, tokenizer) -> dict:
    """The first two prompts as verl asks them."""
    rows = RLHFDataset(config.data.train_files, tokenizer, config.data)
    chats = [list(rows[i]["raw_prompt"]) for i in (0, 1)]
    tokens = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True) for chat in chats]
    tokens = [getattr(each, "input_ids", each) for each in tokens]
    return {"n": len(rows), "tokens": tokens, "index": [rows[i]["extra_info"]["index"] for i in (0, 1)]}


async def scores(config, tokenizer, prompts: list[list[int]], replies: list[list[int]]) -> list[float]:
    """What our manager pays for replies to the first prompt, as verl's reward worker asks it."""
    manager = load_reward_manager(config, tokenizer, reward_router_address=None, reward_model_tokenizer=None)
    found = []
    for reply in replies:
        ids, responses = torch.tensor([prompts[0]]), torch.tensor([reply])
        batch = TensorDict(
            {"prompts": ids, "responses": responses, "attention_mask": torch.ones(1, ids.size(1) + len(reply))},
            batch_size=1,
        )
        other = {"extra_info": np.array([{"index": 0}], dtype=object)}
        found.append((await manager.run_single(DataProto(batch=batch, non_tensor_batch=other)))["reward_score"])
    return found


def engine_of(config, kind: str):
    """verl's engine of a kind, initialized."""
    part, model = (
        (config.critic, config.critic.model) if kind == "value_model" else
        (config.actor_rollout_ref.actor, config.actor_rollout_ref.model)
    )  # fmt: skip
    settings, model = omega_conf_to_dataclass(part), omega_conf_to_dataclass(model)
    model.model_type = kind
    engine = EngineRegistry.new(
        model_type=kind,
        backend=settings.strategy,
        model_config=model,
        engine_config=settings.engine,
        optimizer_config=settings.optim,
        checkpoint_config=settings.checkpoint,
    )
    engine.initialize()
    return engine, settings, model


def steps(engine) -> list[float]:
    """Take steps with made-up gradients; the learning rate of each."""
    rates = []
    for _ in range(N_STEPS):
        rates.append(engine.lr_scheduler.get_last_lr()[0])
        for parameter in engine.module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        engine.optimizer_step()
        engine.lr_scheduler_step()
    return rates


async def rollout(config, model, engine, prompt: list[int]) -> dict:
    """Replies by our server with the engine's weights, and how far its log-probabilities are from the engine's."""
    server = HFServer(omega_conf_to_dataclass(config.actor_rollout_ref.rollout), model, 0)
    weights, peft_config = engine.get_per_tensor_param(base_sync_done=True)
    await server.load({name: tensor.detach().clone() for name, tensor in weights}, peft_config, 1)
    asked = [server.generate(prompt, {"temperature": 1.0, "logprobs": True}, str(i)) for i in range(6)]
    replies = await asyncio.gather(*asked)
    off = 0.0
    for reply in replies:
        with torch.no_grad():
            logits = engine.module(input_ids=torch.tensor([prompt + reply.token_ids])).logits[0]
        log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        for n, token in enumerate(reply.token_ids):
            off = max(off, abs(float(log_probs[n, token].exp()) - float(torch.tensor(reply.log_probs[n]).exp())))
    return {"off": off, "replies": [reply.token_ids for reply in replies]}


def main(folder: Path, words: list[str], replies: list[list[int]]) -> dict:
    initialize_global_process_group_ray()
    config = composed(words)
    tokenizer = hf_tokenizer(str(folder / "model"))
    asked = data_set(config, tokenizer)
    engine, _, model = engine_of(config, "language_model")
    rates = steps(engine)
    engine.save_checkpoint(str(folder / "saved" / "actor"), global_step=N_STEPS)
    critic, settings, _ = engine_of(config, "value_model")
    head = next(p for name, p in critic.module.named_parameters() if name.endswith("score.weight"))
    return {
        "data": asked,
        "scores": asyncio.run(scores(config, tokenizer, asked["tokens"], replies)),
        "rates": rates,
        "rollout": asyncio.run(rollout(config, model, engine, asked["tokens"][0])),
        "names": [get_rollout_class("hf_cpu").__name__, RolloutReplicaRegistry.get("hf_cpu").__name__],
        "head": float(head.full_tensor().abs().sum()),
        "critic": [settings.cliprange_value, settings.ppo_epochs],
    }


if __name__ == "__main__":
    command = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    print("RESULT" + json.dumps(main(Path(sys.argv[1]), command["words"], command["replies"])))
