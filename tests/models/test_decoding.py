"""Decoding by shared computation decides as the plain one does, and freed memory stays."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from chat_templates import CHATML, byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from hidden_rule.models import decoding
from hidden_rule.models.decoding import Generation
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import label_trie, stop_tokens
from tiny_models import tiny_model

SOURCES = Path(__file__).resolve().parents[2] / "src"
# Log-probabilities: logits of some 30, computed from a sum that each of 30 layers rounds once more to 24 bits
ROUNDING = 30 * 30 * 2**-23
WORDS = ["Say hello.", "Say hello to the world.", "Say good night.", "Count to three, slowly.", "Say it."]


def test_greedy_replies_are_those_of_each_prompt_alone(manifest):
    """In float32; prompts of five lengths that share a start, in batches of three and two."""
    tokenizer = load_tokenizer(manifest)
    model = load_model(manifest, "float32", torch.device("cpu"))
    start = tokenizer("You answer in few words, whatever is asked. Now: ")["input_ids"]
    prompts = [start + tokenizer(words)["input_ids"] for words in WORDS]
    assert decoding.shared_cache(model, prompts)[1] >= len(start)
    replies, n_tokens = decoding.generate_replies(model, tokenizer, prompts, Generation(3, 6))
    model.set_attn_implementation("eager")
    expected, n_expected = [], 0
    for prompt in prompts:
        ids = torch.tensor([prompt])
        tokens = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )[0, len(prompt) :]
        expected.append(tokenizer.decode(tokens, skip_special_tokens=True))
        n_expected += len(tokens)
    assert (replies, n_tokens) == (expected, n_expected)


def test_drafts_that_are_greedy_replies_are_not_generated(manifest, monkeypatch):
    tokenizer = load_tokenizer(manifest)
    model = load_model(manifest, "float32", torch.device("cpu"))
    prompts = [tokenizer(f"You answer in few words. {words}")["input_ids"] for words in WORDS]
    greedy = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        greedy.append(written[0, len(prompt) :].tolist())
    stops = [tokens[-1] for tokens in greedy]  # so that each of them ends, after six tokens at most
    monkeypatch.setattr(decoding, "stop_tokens", lambda *_: stops)
    greedy = [tokens[: 1 + next(i for i, token in enumerate(tokens) if token in stops)] for tokens in greedy]
    asked, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **of: asked.append(len(of["input_ids"])) or generate(**of))
    expected = decoding.generate_replies(model, tokenizer, prompts, Generation(3, 6))
    assert expected[1] == sum(map(len, greedy)) and asked == [3, 2]
    wrong = [greedy[1][0] + 1, *greedy[1][1:]]  # its first token is not the likeliest
    endless, long = [greedy[2][0], -1], 7 * greedy[4][-1:]
    drafts = [greedy[0], wrong, endless, greedy[3], long]
    asked.clear()
    assert decoding.generate_replies(model, tokenizer, prompts, Generation(3, 6), drafts=drafts) == expected
    assert asked == [3]
    asked.clear()
    assert decoding.generate_replies(model, tokenizer, prompts, Generation(1, 6), drafts=5 * [wrong]) == expected
    assert sum(asked) == 5  # and no draft after the first was looked at, which is one batch here


@pytest.mark.slow
def test_drawn_replies_follow_the_model_s_probabilities(manifest):
    """At the temperature asked for, over all tokens, whatever the model's own generation settings are."""
    tokenizer = load_tokenizer(manifest)
    model = load_model(manifest, "float32", torch.device("cpu"))
    model.generation_config.update(top_k=1, top_p=0.1, temperature=9.0, repetition_penalty=2.0)
    prompt, n = tokenizer("My favourite colour is")["input_ids"], 600
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 0.7, -1)
    torch.manual_seed(0)
    replies, _ = decoding.generate_replies(model, tokenizer, [prompt] * n, Generation(200, 1, temperature=0.7))
    for p, token in zip(*expected.topk(5), strict=True):
        share = replies.count(tokenizer.decode([token])) / n
        assert share == pytest.approx(float(p), abs=4 * float(p * (1 - p) / n) ** 0.5)
    assert len(set(replies)) > 20


def test_a_model_s_own_ways_of_decoding_are_not_used(tmp_path):
    """Neither settings nor code: greedy replies are those of the most probable tokens, and stop tokens count."""
    tokenizer = byte_tokenizer(CHATML)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    settings = {
        "eos_token_id": [3, 4], "repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_new_tokens": 9, "top_k": 1,
        "suppress_tokens": list(range(8, 100)), "bad_words_ids": [[9]], "forced_eos_token_id": 7, "num_beams": 3,
        "do_sample": True, "temperature": 9.0, "max_time": 0.0, "cache_implementation": "static",
        "exponential_decay_length_penalty": [1, 9.0], "begin_suppress_tokens": [5], "renormalize_logits": True,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "custom_generate").mkdir()
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef generate(model, **kwargs): raise RuntimeError('run')\n"
    (tmp_path / "custom_generate" / "generate.py").write_text(code, encoding="utf-8")
    tokenizer.save_pretrained(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"source": "path", "id": str(tmp_path), "revision": "", "files": {}}), "utf-8")
    network, tokenizer = load_model(manifest, "float32", torch.device("cpu")), load_tokenizer(manifest)
    assert stop_tokens(tokenizer, network) == [258, 3, 4]
    network.generation_config.update(repetition_penalty=9.0)  # as if another had loaded it
    prompts = [[20, 30, 40], [50, 60], [70]]
    replies, n_tokens = decoding.generate_replies(network, tokenizer, prompts, Generation(2, 12))
    assert not (tmp_path / "ran").exists()
    expected, n_expected = [], 0
    for ids in prompts:
        written: list[int] = []
        with torch.no_grad():
            while len(written) < 12 and not set(written) & {258, 3, 4}:
                written.append(int(network(torch.tensor([ids + written])).logits[0, -1].argmax()))
        expected.append(tokenizer.decode([i for i in written if i not in (258, 3, 4)], skip_special_tokens=True))
        n_expected += len(written)
    assert (replies, n_tokens) == (expected, n_expected)


@pytest.mark.parametrize(("family", "window", "length"), [("llama", None, 10), ("qwen", 16, 0), ("gemma", None, 0)])
def test_a_sliding_window_shares_no_cache(family, window, length):
    """The padding between start and rest would count towards the window."""
    model = tiny_model(family, window=window).get_base_model().eval()
    rows = [list(range(1, 11)) + [20 + i] * (i + 1) for i in range(3)]
    assert decoding.shared_cache(model, rows)[1] == length


def test_structured_decisions_do_not_depend_on_the_batch(manifest):
    """Neighbours share what they can; every row's probabilities stay where the row stood, up to rounding."""
    tokenizer = load_tokenizer(manifest)
    model = load_model(manifest, "float32", torch.device("cpu"))
    trie = label_trie(tokenizer, ["YES", "NO", "PERHAPS"])
    prompts = [tokenizer(words)["input_ids"] for words in WORDS]
    together = decoding.label_log_probs(model, trie, prompts, 4)
    for prompt, log_probs in zip(prompts, together, strict=True):
        alone = decoding.label_log_probs(model, trie, [prompt], 1)[0]
        torch.testing.assert_close(alone, log_probs, rtol=0, atol=ROUNDING)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back at once")
def test_memory_that_was_freed_is_kept():
    """Page faults of ten blocks of 64 MB, one after another: 16,384 each, or, kept, none."""
    program = (
        "import resource; from hidden_rule.kernels.allocator import keep_freed_memory; assert keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "size = 2**26; b'x' * size; before = faults()\n"
        "for _ in range(10): b'x' * size\n"
        "print(faults() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCES)}
    )
    assert int(done.stdout) < 100
