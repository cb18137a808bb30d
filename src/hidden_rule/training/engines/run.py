"""One training by an engine: the folder that it trains from, and what a module of an engine provides."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import hidden_rule
from hidden_rule.core.files import read_json
from hidden_rule.models.adapters import ADAPTER
from hidden_rule.training.engines.processes import Processes
from hidden_rule.training.engines.reward_door import ATTEMPT, BEGAN, DOOR
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.launch import Place


@dataclass(frozen=True)
class EngineRun:
    """What an engine trains from. Everything lies below `folder`, where a killed training finds it again.

    The prompts' file holds the batches of all epochs in their order: an engine reads it once, unshuffled, in whole
    batches; step k (from 1) trains on the rows from (k − 1) · batch_size up to k · batch_size, that one excluded.
    """

    job: TrainingJob
    method: str  # grpo | ppo
    place: Place
    folder: Path
    n_steps: int
    steps_an_epoch: int
    longest_prompt: int  # tokens
    dtype: str  # float32 | bfloat16 | float16, of the base model's weights and activations
    device: str  # cpu | cuda
    attempt: int = 1  # one more each time that the training is taken up again
    began: float = field(default_factory=time.time)  # time.time() at which this attempt began

    @property
    def settings(self) -> dict:
        return self.job.settings

    @property
    def model(self) -> Path:
        """The base model as transformers loads it, with the tokenizer and chat template that we use."""
        return self.folder / "model"

    @property
    def start(self) -> Path:
        """The adapter that training begins with, plain PEFT in float32: another condition's, or a new one, seeded."""
        return self.folder / "start"

    @property
    def target_modules(self) -> list[str]:
        """Names of the layers that have an adapter: as the config writes them, or one by one as PEFT does."""
        lora = self.job.lora
        if not lora.get("last_layers"):
            return list(lora["target_modules"])
        return list(read_json(self.start / ADAPTER[1])["target_modules"])

    @property
    def prompts(self) -> Path:
        """JSON lines, see `prompts.py`."""
        return self.folder / "prompts.jsonl"

    @property
    def door(self) -> Path:
        """What the reward door reads: a `reward_door.Door` as JSON."""
        return self.folder / "reward.json"

    @property
    def rollouts(self) -> Path:
        """The folder of the scored replies, see `rollouts.py`."""
        return self.folder / "rollouts"

    @property
    def checkpoints(self) -> Path:
        """The folder of the engine's own checkpoints."""
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        """The folder of the engine's own logs; a file for each attempt."""
        return self.folder / "logs"

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of every process of an engine holds: where our package and the reward door are."""
        package = str(Path(hidden_rule.__file__).parents[1])
        return {"PYTHONPATH": package, DOOR: str(self.door), ATTEMPT: str(self.attempt), BEGAN: repr(self.began)}

    @property
    def save_steps(self) -> int:
        """How often the engine saves itself: as the checkpoint's plan says, or after each epoch."""
        plan = self.job.checkpoints
        return min(plan.steps if plan and plan.steps else self.steps_an_epoch, self.n_steps)


@dataclass(frozen=True)
class Logged:
    """A number that an engine logged of a step (from 1), under our metric's name."""

    step: int
    metric: str
    value: float


class Engine(Protocol):
    """What a module of an engine provides.

    Metrics of `logged` are ours: loss, grad_norm, learning_rate, entropy, kl (from the reference), value_loss,
    explained_variance, and `peak_bytes`, which goes to the costs. Reward and predicted shares are not among them: they
    come from the scored replies.
    """

    name: str

    def train(self, run: EngineRun, processes: Processes, look: Callable[[], None]) -> int:
        """Run the engine to the training's end, from its newest checkpoint; returns the exit status.

        `look` is what `processes.wait` calls meanwhile.
        """

    def saved(self, run: EngineRun) -> int:
        """The step of the newest whole checkpoint, 0 without one."""

    def logged(self, run: EngineRun) -> list[Logged]:
        """What it logged, in all attempts; of a step that several came to, the last one's."""

    def adapter(self, run: EngineRun) -> Path:
        """The folder of the trained adapter, plain PEFT in float32; raises UserError if weights moved otherwise.

        Every weight of the adapter has to have moved, and none of the base model's.
        """
