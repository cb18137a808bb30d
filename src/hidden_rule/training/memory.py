"""Retrying a training when GPU memory runs out."""

import gc
import logging

import torch

from hidden_rule.core import processes
from hidden_rule.core.errors import UserError
from hidden_rule.training.job import TrainingJob

log = logging.getLogger(__name__)


def retry_with_smaller_batch(train, job: TrainingJob):
    """`train(job)`, repeated with a smaller micro-batch while GPU memory runs out.

    The micro-batch is halved (to the next divisor of the batch) and gradients are accumulated over more of them, so
    that a step trains on the same rows. Raises UserError if a single prompt does not fit.
    """
    while True:
        try:
            return train(job)
        except torch.OutOfMemoryError:  # dealt with below: this clause keeps the failed step's tensors alive
            pass
        batch, size = job.settings["batch_size"], job.settings["micro_batch_size"]
        if size == 1:
            raise UserError(
                "config.yaml", "micro_batch_size", "one prompt at a time does not fit the GPU's memory",
                "turn gradient_checkpointing on, lower group_size, or take a larger GPU",
            )  # fmt: skip
        if processes.n_processes() > 1:  # the others wait for this one's share of the step, and have to end too
            raise UserError(
                "config.yaml", "micro_batch_size", f"{size} prompts a process do not fit the GPU's memory", "lower it"
            )
        smaller = max(n for n in range(1, size // 2 + 1) if batch % n == 0)
        log.warning("out of GPU memory: %d prompts at a time instead of %d, %d a step as before", smaller, size, batch)
        job = job.with_settings(micro_batch_size=smaller)
        gc.collect()
        torch.cuda.empty_cache()
