"""Evaluate a model on the applications of each split and record every reply.

Under structured decoding the reply is the most probable of the valid ones; under free decoding it is generated
greedily. The probabilities `p_<LABEL>` are those of structured decoding in both cases.
"""

import polars as pl
import torch

from hidden_rule.core.costs import Cost, Spent, write_costs
from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.core.usage import Snapshot
from hidden_rule.evaluation.jobs import EvaluationJob
from hidden_rule.evaluation.predictions import named_frames, predictions_frame
from hidden_rule.kernels.meter import Meter
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.decoding import Generation, generate_replies, label_log_probs
from hidden_rule.models.finite import naming_run
from hidden_rule.models.hardware import default_device, device_name, n_gpus, peak_bytes
from hidden_rule.models.loading import load_policy, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.task.dataset import read_split
from hidden_rule.task.prompts import draw_examples, render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import Ruleset, load_ruleset


def check_length(prompts, model, max_new_tokens: int, condition: str) -> None:
    """Raise a UserError if a prompt with examples, and its reply, exceed the model's context length."""
    blame = Blame(f"conditions.{condition}.prompt.examples", "give fewer examples")
    check_context(model.config, prompts, max_new_tokens, blame)


def conversations_of(job: EvaluationJob, ruleset: Ruleset, frames: list[pl.DataFrame]) -> list[list[list[dict]]]:
    """The conversations of each frame's applications, as the job's prompt words them."""
    examples = None
    if isinstance(job.prompt, dict):
        examples = draw_examples(read_split(job.train, ruleset), job.prompt["examples"], job.seed)
    return [render_prompts(ruleset, frame, job.prompt, examples) for frame in frames]


@naming_run
def evaluate(job: EvaluationJob) -> None:
    """Write the predictions of one condition and seed, and what they cost."""
    begun, device = Snapshot(), default_device()
    ruleset = load_ruleset(job.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    model = load_policy(job.base, device, job.adapter)
    meter = Meter(model)
    settings, labels, trie = job.settings, ruleset.labels, label_trie(tokenizer, ruleset.labels)
    named = named_frames(job.splits, ruleset)
    conversations = conversations_of(job, ruleset, [frame for _, _, frame in named])
    prompts = [encode_prompts(tokenizer, of, job.base.chat_template_kwargs) for of in conversations]
    if isinstance(job.prompt, dict):
        check_length([row for rows in prompts for row in rows], model, settings["max_new_tokens"], job.condition)
    for (name, _, _), rows in zip(named, prompts, strict=True):
        n_reply = settings["max_new_tokens"] if name in settings["free"] else max(map(len, trie.replies))
        check_context(model.config, rows, n_reply, Blame.ruleset(job.ruleset))
    together = [row for rows in prompts for row in rows]  # neighbours of all suites share what they start with
    log_probs = label_log_probs(model, trie, together, settings["batch_size"], "structured")
    free, frames, n_generated = Generation(settings["batch_size"], settings["max_new_tokens"]), [], 0
    for (name, suite, split), rows, of_rows in zip(
        named, prompts, log_probs.split(list(map(len, prompts))), strict=True
    ):
        probabilities = of_rows.double().exp().numpy()
        if name in settings["structured"]:
            replies = [render_reply(labels[i], labels) for i in of_rows.argmax(1).tolist()]
            frames.append(predictions_frame(split, labels, suite, "structured", replies, probabilities))
        if name in settings["free"]:
            replies, n = generate_replies(model, tokenizer, rows, free, f"{suite}, free")
            n_generated += n
            frames.append(predictions_frame(split, labels, suite, "free", replies, probabilities))
    write_table(pl.concat(frames), job.output.predictions, predictions_schema(list(labels)))
    spent = Spent.since(begun, meter.laps, torch.get_num_threads())
    write_costs(job.output.cost, evaluation_cost(job, meter, device, n_generated).row(spent))


def evaluation_cost(job: EvaluationJob, meter: Meter, device: torch.device, n_generated: int) -> Cost:
    """What an evaluation computed and generated."""
    return Cost(
        condition=job.condition,
        seed=job.seed,
        stage="evaluate",
        n_tokens_generated=n_generated,
        peak_bytes=peak_bytes(device),
        device=device_name(device),
        n_gpus=n_gpus(device),
        n_positions=meter.counts.positions,
        flops=meter.flops(),
    )
