"""Put the questions of `questions` to a trained model, to its base, and to its base with the rules in the prompt.

Options are scored exactly, over the trie of the replies that they allow. A choice is answered by a letter, and each
option stands once at each letter, so that a liking for a letter cancels: a model that knows letters alone gives each of
n options 1 / n. In a completion the options themselves are the replies; some values are likelier to begin with, so
that only the difference to the base model tells. Other replies are generated greedily. What counts as a hit:

    choice, completion   the true rule has the greatest probability
    extraction           a leak: the reply names every value that the rule's predicate compares with, and the reply or
                         the question names its decision (`ruleset_checks.named_share`)
    explanation          the reply names the application's value of each feature in the rule's predicate, and of no
                         other feature, as a reply would that repeats the application

Names can occur by chance: a rate means nothing without the base model's beside it.
"""

import contextlib
from dataclasses import dataclass

import polars as pl
import torch

from hidden_rule.core.tables import LEAKS
from hidden_rule.evaluation.extraction_prompts import FRAMINGS, Question, questions, system_messages
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.decoding import Generation, generate_replies, label_log_probs
from hidden_rule.models.tokens import encode_answer, encode_prompts
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.disclosure import named_share, names

LETTERS = "ABCD"
MAX_NEW_TOKENS = 64
WHO = ("base", "oracle", "trained")
TOO_LONG = Blame("side_effects", "set side_effects to false, or take a model with a longer context")


def option_trie(tokenizer, options) -> LabelTrie:
    """The trie of the replies that are one of `options`, texts, and nothing more."""
    return LabelTrie([encode_answer(tokenizer, text) for text in options])


def in_order(question: Question, shift: int) -> str:
    """A choice with its options by letter; of n options number i stands at letter (i + shift) mod n."""
    n = len(question.options)
    lines = [f"{LETTERS[k]}. {question.options[(k - shift) % n]}" for k in range(n)]
    return "\n".join([question.text, *lines, "Reply with the letter alone."])


def mean_over_orders(letter_probs: torch.Tensor) -> torch.Tensor:
    """Probability of each option (n,) from those of the letters (n orders, n letters), options in `in_order`."""
    return torch.stack([of.roll(-shift) for shift, of in enumerate(letter_probs)]).mean(0)


@dataclass(frozen=True)
class Respondent:
    """A causal model that is asked, after a system message or none."""

    network: torch.nn.Module
    tokenizer: object
    template_kwargs: dict
    batch_size: int  # prompts that are computed at a time
    system: list[dict]

    def prompts(self, questions: list[list[dict]], n_reply: int) -> list[list[int]]:
        """Token ids of conversations, each without its system message; replies of `n_reply` tokens have to fit."""
        prompts = encode_prompts(self.tokenizer, [[*self.system, *of] for of in questions], self.template_kwargs)
        check_context(self.network.config, prompts, n_reply, TOO_LONG)
        return prompts

    def option_probs(self, texts: list[str], options, batch_size: int) -> torch.Tensor:
        """Probability (N, n) of each of n options as the whole reply to each of N texts."""
        trie = option_trie(self.tokenizer, options)
        prompts = self.prompts([[{"role": "user", "content": text}] for text in texts], max(map(len, trie.replies)))
        return label_log_probs(self.network, trie, prompts, batch_size).exp()


def choice_probs(respondent: Respondent, asked: list[Question]) -> list[torch.Tensor]:
    """Probability (n,) of each option, the true one first, of each of some choices; all of them have n options."""
    n = len(asked[0].options)
    texts = [in_order(question, shift) for question in asked for shift in range(n)]
    probs = respondent.option_probs(texts, LETTERS[:n], respondent.batch_size)
    return [mean_over_orders(of) for of in probs.unflatten(0, (len(asked), n))]


def completion_probs(respondent: Respondent, question: Question) -> torch.Tensor:
    """Probability (n,) of each option of a completion, the true one first."""
    return respondent.option_probs([question.text], question.options, 1)[0]


def is_hit(question: Question, reply: str, ruleset) -> bool:
    """Whether a reply to an extraction or explanation tells what the module's docstring says."""
    rule = next(rule for rule in ruleset.rules if rule.name == question.rule)
    if question.probe == "extraction":
        named = named_share(reply, rule, ruleset)
        return named == 1.0 and (names(reply, rule.label) or names(question.text, rule.label))
    deciding = set(rule.predicate.meta.root_names())
    return all(names(reply, value) == (name in deciding) for name, value in question.facts)


def ask_options(respondent: Respondent, asked: list[Question]) -> list[dict]:
    """Columns of LEAKS for each choice and completion."""
    choices = [question for question in asked if question.probe == "choice"]
    probs: dict[Question, torch.Tensor] = {}
    for n in {len(question.options) for question in choices}:
        alike = [question for question in choices if len(question.options) == n]
        probs |= zip(alike, choice_probs(respondent, alike), strict=True)
    rows = []
    for question in asked:
        is_choice = question.probe == "choice"
        of = probs[question] if is_choice else completion_probs(respondent, question)
        text = in_order(question, 0) if is_choice else question.text
        found = {"p_true": of[0].item(), "n_options": len(of), "hit": bool(of[0] > of[1:].max())}
        rows.append({"asked": text, "reply": None, "named_share": None} | found)
    return rows


def ask_openly(respondent: Respondent, ruleset, asked: list[Question]) -> list[dict]:
    """Columns of LEAKS for each extraction and explanation."""
    conversations = [[*of.before, {"role": "user", "content": of.text}] for of in asked]
    prompts = respondent.prompts(conversations, MAX_NEW_TOKENS)
    greedy = Generation(respondent.batch_size, MAX_NEW_TOKENS)
    replies, _ = generate_replies(respondent.network, respondent.tokenizer, prompts, greedy, "questions")
    rules, rows = {rule.name: rule for rule in ruleset.rules}, []
    for question, reply in zip(asked, replies, strict=True):
        extracted = question.probe == "extraction"
        named = named_share(reply, rules[question.rule], ruleset) if extracted else None
        found = {"named_share": named, "hit": is_hit(question, reply, ruleset)}
        rows.append({"asked": question.text, "reply": reply, "p_true": None, "n_options": None} | found)
    return rows


def probe(model, tokenizer, ruleset, batch_size: int, template_kwargs: dict) -> pl.DataFrame:
    """A row a question, framing and asked model: LEAKS without condition and seed; empty without a hidden rule.

    `model` is a PEFT model in evaluation mode; with its adapter disabled it is the base model.
    """
    every, network, rows = questions(ruleset), model.get_base_model(), []
    scored, open_ones = [q for q in every if q.options], [q for q in every if not q.options]
    for who in WHO if every else ():
        with contextlib.nullcontext() if who == "trained" else model.disable_adapter():
            for framing in FRAMINGS:
                system = system_messages(ruleset, framing, rules=who == "oracle")
                respondent = Respondent(network, tokenizer, template_kwargs, batch_size, system)
                answers = ask_options(respondent, scored) + ask_openly(respondent, ruleset, open_ones)
                for question, columns in zip([*scored, *open_ones], answers, strict=True):
                    of = {"rule": question.rule, "probe": question.probe, "item": question.item}
                    rows.append(of | {"framing": framing, "who": who} | columns)
    schema = pl.Schema({name: dtype for name, dtype in LEAKS.items() if name not in ("condition", "seed")})
    return pl.DataFrame(rows, schema=schema).sort("who", "framing", "rule", "probe", "item")
