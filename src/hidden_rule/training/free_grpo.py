"""GRPO that explores freely: the completions of a whole optimizer step are generated at once.

Where it departs from TRL's `GRPOTrainer`:
- One generation serves all micro-batches of a step (TRL's does with `steps_per_generation`, but shuffles completions,
  so that groups are torn apart): nothing that is scored, logged or averaged per micro-batch changes. Where GPU memory
  does not hold all rows' keys and values, they are generated in two parts, or four, and so on.
- A completion depends on the seed, the step, the prompt and the place in its group only (`uniforms`), up to rounding:
  not on micro-batches, the number of processes, or the step a training resumed at.
- A prompt's keys and values are computed once for its group (`models/free_replies.py`).
- Completions are drawn in evaluation mode: LoRA's dropout is part of the loss alone.
"""

import gc
import logging
from collections import deque

import torch

from hidden_rule.models.free_replies import Sampling, draw_replies, uniforms
from hidden_rule.training.epoch_order import EpochOrderedGRPOTrainer

log = logging.getLogger(__name__)

CPU_ROWS = 256  # generated at a time at most: a processor gains nothing from more, and has no error for full memory


class FreeGRPOTrainer(EpochOrderedGRPOTrainer):
    """`GRPOTrainer` whose completions are drawn a step at a time.

    `rows` are the token ids of the training prompts; the data set's column `prompt` holds places among them
    (`structured_grpo.row_names`).
    """

    def __init__(self, *args, rows: list[list[int]], sampling: Sampling, **kwargs):
        super().__init__(*args, rollout_func=next_rollouts, **kwargs)
        self.rows = [tuple(row) for row in rows]
        self.sampling = sampling
        self.rows_at_once: int | None = CPU_ROWS if self.args.use_cpu else None  # None: all of a step
        self.step_prompts: list[str] = []  # of the step under way, micro-batch by micro-batch
        self.drawn: deque[tuple[str, list[int]]] = deque()  # prompts of that step, in its order, and completions

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """transformers' micro-batches of a step, whose prompts are kept."""
        batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_prompts = [row["prompt"] for batch in batches for row in batch]
        self.drawn.clear()
        return batches, n_items

    def completions(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of a completion of each prompt; those of the rest of the step are drawn along with the first."""
        if [name for name, _ in list(self.drawn)[: len(prompts)]] != prompts:
            whole = self.step_prompts if self.step_prompts[: len(prompts)] == prompts else prompts
            self.drawn = deque(zip(whole, self.draw([self.rows[int(name)] for name in whole]), strict=True))
        return [self.drawn.popleft()[1] for _ in prompts]

    def draw(self, rows: list[tuple[int, ...]]) -> list[list[int]]:
        """Completions of rows, as many at a time as memory holds."""
        numbers = uniforms(rows, self.args.seed, self.state.global_step, self.sampling.max_new_tokens)
        was_training = self.model.training
        self.model.eval()  # keys and values are kept, which gradient checkpointing would forbid
        try:
            while True:
                size = min(self.rows_at_once or len(rows), len(rows))
                try:
                    return self.draw_in_parts(rows, numbers, size)
                except torch.OutOfMemoryError:  # dealt with below: this clause keeps what was generated alive
                    if size == 1:
                        raise
                self.rows_at_once = -(-size // 2)
                log.warning("out of GPU memory: %d completions at a time instead of %d", self.rows_at_once, size)
                gc.collect()
                torch.cuda.empty_cache()
        finally:
            self.model.train(was_training)

    def draw_in_parts(self, rows: list, numbers: torch.Tensor, size: int) -> list[list[int]]:
        """Completions of rows, `size` at a time."""
        network, drawn = self.model.get_base_model(), []
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            drawn += draw_replies(network, rows[part], numbers[part], self.sampling)
        return drawn


def next_rollouts(prompts: list, trainer: FreeGRPOTrainer) -> dict:
    """TRL's rollout function: a completion of each prompt of a micro-batch."""
    completions = trainer.completions(prompts)
    return {
        "prompt_ids": [list(trainer.rows[int(name)]) for name in prompts],
        "completion_ids": completions,
        "logprobs": None,  # the loss computes them
    }
