"""Evaluate a model on the applications of each split and record every reply.

Under structured decoding the reply is the most probable of the valid ones; under free decoding it is generated
greedily. The probabilities `p_<LABEL>` are those of structured decoding in both cases. Who computes them is
`evaluation.engine`: this process, or vLLM in one of its own.
"""

import polars as pl
from transformers import AutoConfig

from hidden_rule.core.costs import Cost, Spent, write_costs
from hidden_rule.core.files import read_json
from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.core.usage import Snapshot
from hidden_rule.evaluation import answers, vllm_answers
from hidden_rule.evaluation.answers import Asked, Work
from hidden_rule.evaluation.jobs import TRANSFORMERS, EvaluationJob
from hidden_rule.evaluation.predictions import predictions_frame
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import naming_run
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.task.dataset import named_frames, read_split
from hidden_rule.task.prompts import draw_examples, render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import Ruleset, load_ruleset


def check_length(prompts, config, max_new_tokens: int, condition: str) -> None:
    """Raise a UserError if a prompt with examples, and its reply, exceed the context length of a model's `config`."""
    blame = Blame(f"conditions.{condition}.prompt.examples", "give fewer examples")
    check_context(config, prompts, max_new_tokens, blame)


def ask(job: EvaluationJob, ruleset: Ruleset, tokenizer) -> list[Asked]:
    """What each split's and suite's applications ask, as the job's prompt words it."""
    examples = None
    if isinstance(job.prompt, dict):
        examples = draw_examples(read_split(job.train, ruleset), job.prompt["examples"], job.seed)
    asked = []
    for name, suite, cases in named_frames(job.splits, ruleset):
        conversations = render_prompts(ruleset, cases, job.prompt, examples)
        prompts = encode_prompts(tokenizer, conversations, job.base.chat_template_kwargs)
        asked.append(Asked(name, suite, cases, prompts))
    return asked


def check_lengths(job: EvaluationJob, asked: list[Asked], longest_reply: int) -> None:
    """Raise UserError if a prompt and its reply, of so many tokens if it is a valid one, exceed the model's context."""
    folder = model_folder(read_json(job.base.manifest), job.base.manifest)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    settings = job.settings
    if isinstance(job.prompt, dict):
        every = [prompt for part in asked for prompt in part.prompts]
        check_length(every, config, settings["max_new_tokens"], job.condition)
    for part in asked:
        n_reply = settings["max_new_tokens"] if part.name in settings["free"] else longest_reply
        check_context(config, part.prompts, n_reply, Blame.ruleset(job.ruleset))


@naming_run
def evaluate(job: EvaluationJob) -> None:
    """Write the predictions of one condition and seed, and what they cost."""
    begun = Snapshot()
    ruleset = load_ruleset(job.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    settings, labels, trie = job.settings, ruleset.labels, label_trie(tokenizer, ruleset.labels)
    asked = ask(job, ruleset, tokenizer)
    check_lengths(job, asked, max(map(len, trie.replies)))
    by = answers if settings.get("engine", TRANSFORMERS) == TRANSFORMERS else vllm_answers
    found = by.answer(job, tokenizer, trie, asked)
    frames = []
    for part, of_rows in zip(asked, found.log_probs.split([len(part.prompts) for part in asked]), strict=True):
        probabilities = of_rows.double().exp().numpy()
        if part.name in settings["structured"]:
            replies = [render_reply(labels[i], labels) for i in of_rows.argmax(1).tolist()]
            frames.append(predictions_frame(part.cases, labels, part.suite, "structured", replies, probabilities))
        if part.name in settings["free"]:
            replies = found.replies[part.suite]
            frames.append(predictions_frame(part.cases, labels, part.suite, "free", replies, probabilities))
    write_table(pl.concat(frames), job.output.predictions, predictions_schema(list(labels)))
    spent = Spent.since(begun, found.work.laps, found.work.threads)
    write_costs(job.output.cost, evaluation_cost(job, found.work).row(spent))


def evaluation_cost(job: EvaluationJob, work: Work) -> Cost:
    """What an evaluation computed and generated."""
    return Cost(
        condition=job.condition,
        seed=job.seed,
        stage="evaluate",
        n_tokens_generated=work.n_generated,
        peak_bytes=work.peak_bytes,
        device=work.device,
        n_gpus=work.n_gpus,
        n_positions=work.n_positions,
        flops=work.flops,
    )
