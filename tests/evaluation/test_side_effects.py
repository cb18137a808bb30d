"""Side effects: by hand, against transformers' own loss, and in words that the intervals support."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from test_page import CONFIG, TEMPLATE

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import LEAKS, SIDE_EFFECTS, SIDE_EFFECTS_SUMMARY, write_table
from hidden_rule.evaluation import side_effects
from hidden_rule.experiment.config import load_config
from hidden_rule.report import side_effects_page as side_effects_report
from hidden_rule.report.page import build_report, render_report
from hidden_rule.statistics import side_effects_summary
from hidden_rule.task import ordinary_text as texts
from hidden_rule.task.nouns import APPLICATION
from synthetic import WORLD, make_ruleset, write_results
from tiny_models import tiny_model

ROWS = [("passage", 9, 1), ("passage", 23, 1), ("instruction", 14, 8), ("instruction", 31, 30)]  # kind, length, start


def items():
    generator = torch.Generator().manual_seed(1)
    return [
        side_effects.Item(kind, f"item {i}", torch.randint(1, 97, (length,), generator=generator).tolist(), start)
        for i, (kind, length, start) in enumerate(ROWS)
    ]


def test_divergence_by_hand():
    p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.25, 0.75], [0.9, 0.1]])
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.0]
    assert side_effects.divergence(p.log(), q.log()).tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("family", ["llama", "qwen", "gemma"])
def test_against_transformers_own_loss_and_the_whole_distribution(family, monkeypatch):
    """Rows of unequal length in one batch, the vocabulary in blocks of a few positions."""
    monkeypatch.setattr(side_effects, "NUMBERS", 97 * 5)
    model = tiny_model(family).eval()
    found = side_effects.compare(model, items(), batch_size=3)
    model.set_attn_implementation("eager") if hasattr(model, "set_attn_implementation") else None
    for item, row in zip(items(), found.to_dicts(), strict=True):
        ids = torch.tensor([item.ids])
        labels = ids.clone()
        labels[:, : item.start] = -100
        with torch.no_grad():
            trained = model(input_ids=ids, labels=labels)
            with model.disable_adapter():
                base = model(input_ids=ids, labels=labels)
        assert row["n_tokens"] == len(item.ids) - item.start
        assert row["log_likelihood"] == pytest.approx(-trained.loss.item(), abs=2e-5)
        assert row["log_likelihood_base"] == pytest.approx(-base.loss.item(), abs=2e-5)
        log_p, log_q = (of.logits[0, item.start - 1 : -1].log_softmax(-1) for of in (base, trained))
        kl = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum") / row["n_tokens"]
        assert row["kl"] == pytest.approx(kl.item(), abs=2e-5) and row["kl"] > 1e-3


def test_an_adapter_that_is_zero_changes_nothing():
    model = tiny_model("llama").eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    found = side_effects.compare(model, items(), batch_size=4)
    assert found["kl"].to_list() == [0.0] * len(ROWS)
    assert found["log_likelihood"].equals(found["log_likelihood_base"])


def test_intervals_are_students_over_items_and_wider_with_seeds_that_differ():
    values = np.random.default_rng(0).exponential(size=(40, 1))
    mean, low, high = side_effects_summary.mean_interval(values)
    expected = stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), expected.low, expected.high))
    same = side_effects_summary.mean_interval(np.repeat(values, 3, axis=1))
    apart = side_effects_summary.mean_interval(values + np.array([0.0, 1.0, 2.0]))
    assert same[2] - same[1] == pytest.approx(high - low)  # three seeds that agree are no more items
    assert apart[2] - apart[1] > 3 * (high - low)


def made(change, kl=0.5, who=None, n_seeds=1):
    """Tables of made-up conditions a (changed) and b (not); `who`: {who: (p of the true rule, share of hits)}."""
    rng = np.random.default_rng(0)
    effects, leaks = [], []
    for condition, by in (("a", change), ("b", 0.0)):
        for seed in range(n_seeds):
            for kind in ("passage", "instruction"):
                noise = rng.normal(0, 0.1, 20) - by
                noise -= noise.mean() + by if not by else 0
                effects += [(condition, seed, kind, f"{i}", 30, -2.0, -2.0 + x, kl) for i, x in enumerate(noise)]
            for asked, (p, share) in (who or {}).items():
                asked_of = asked if condition == "a" or asked != "trained" else "base"
                p, share = who[asked_of]
                for item in range(12):
                    choice = {"p_true": p + 0.01 * rng.normal(), "n_options": 4, "hit": p > 0.5}
                    reply = {"reply": "<script>alert(1)</script>", "named_share": 1.0, "hit": item < share * 12}
                    for probe, of in (("choice", choice), ("extraction", reply)):
                        for framing in ("deployed", "bare"):
                            at = {"condition": condition, "seed": seed, "rule": "r", "probe": probe, "item": item}
                            leaks.append(at | {"framing": framing, "who": asked, "asked": "?"} | of)
    return pl.DataFrame(effects, schema=SIDE_EFFECTS, orient="row"), pl.DataFrame(leaks, schema=LEAKS)


QUIET = {"trained": (0.25, 0.0), "base": (0.25, 0.0), "oracle": (0.9, 0.75)}
LOUD = {"trained": (0.8, 0.75), "base": (0.25, 0.0), "oracle": (0.9, 0.75)}
BLIND = {"trained": (0.25, 0.0), "base": (0.25, 0.0), "oracle": (0.25, 0.75)}


def sentences(change, who, n_seeds=1):
    return side_effects_report.sentences(
        side_effects_summary.summarize(*made(change, who=who, n_seeds=n_seeds)), "ab", APPLICATION
    )


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_swapped_numbers_swap_the_words(n_seeds):
    cost_a, cost_b, leak_a, leak_b, oracle, caveat = sentences(0.4, LOUD, n_seeds)
    assert cost_a.startswith("a, compared with the base model: lower log-likelihood on ordinary text by 0.")
    assert cost_b.startswith("b, compared with the base model: no significant change on ordinary text")
    assert leak_a.startswith("a reveals more of the hidden rule than the base model: choice by letter, probability")
    assert leak_b.startswith("b: no significant leak of the hidden rule beyond the base model: ")
    assert "extraction, 75.0% of 12 replies state the rule (base model 0.0%)" in leak_a
    assert oracle.startswith("Positive control: the base model with the rules in its prompt reveals more")
    assert "lower bound on leakage" in caveat
    gain_a, _, quiet_a, _, _, caveat = sentences(-0.4, QUIET, n_seeds)
    assert gain_a.startswith("a, compared with the base model: higher log-likelihood on ordinary text by 0.")
    assert quiet_a.startswith("a: no significant leak of the hidden rule") and "lower bound" in caveat


def test_a_probe_that_cannot_see_a_rule_in_the_prompt_is_said_to_be_blind():
    *_, oracle, _ = sentences(0.4, BLIND)
    assert "reveals more than without them: extraction" in oracle
    assert oracle.endswith("Not detected by choice by letter. This probe is uninformative for this model.")


def test_no_hidden_rule_no_word_of_leaks():
    summary = side_effects_summary.summarize(*made(0.4))
    assert summary.schema == SIDE_EFFECTS_SUMMARY
    assert len(side_effects_report.sentences(summary, "ab", APPLICATION)) == 2
    shown = side_effects_report.section_of(summary, LEAKS.to_frame())
    assert len(shown["tables"]) == 1 and shown["replies"] is None


def test_null_worlds_seldom_cost_or_leak():
    """Two-sided intervals at 95%: of 400 conditions that changed nothing some 2.5% seem to cost something."""
    rng = np.random.default_rng(3)
    below = [side_effects_summary.mean_interval(rng.normal(0, 0.2, (40, 1)))[2] < 0 for _ in range(400)]
    hits = [rng.binomial(1, 0.2, (12, 2)) for _ in range(400)]
    more = [side_effects_summary._difference(h[:, :1] - h[:, 1:])["ci_low"] > 0 for h in hits]
    assert sum(below) <= 18 and sum(more) <= 18  # 10 expected; more than 18 has a chance of 0.6%


def test_replies_are_escaped_on_the_page(tmp_path):
    effects, leaks = made(0.4, who=LOUD)
    world, sizes = {"baseline": WORLD["baseline"], "sft": WORLD["sft"]}, [("test", "structured", 40, 0)]
    config = CONFIG | {"side_effects": True}
    results = write_results(tmp_path, make_ruleset(4), world, config=config, sizes=sizes)
    write_table(side_effects_summary.summarize(effects, leaks), tmp_path / "side_effects.parquet", SIDE_EFFECTS_SUMMARY)
    (run,) = results.measured
    for table, path, schema in (
        (effects, results.layout.side_effects(run), SIDE_EFFECTS),
        (leaks, results.layout.leaks(run), LEAKS),
    ):
        write_table(table, path, schema)
    context = build_report(results)
    page = render_report(context, TEMPLATE)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and page.count("<script") == 1  # the page's own
    assert "Side effects and leakage of the hidden rule" in page and "75.0% (" in page


def test_the_texts_that_ship():
    found = texts.load_texts()
    assert len(found["passages"]) == len(found["instructions"]) == 40
    assert all(40 <= len(text.split()) <= 90 for text in found["passages"].values())


GOOD = "passages: {a: A text that is long enough., b: Another text that is long enough.}\n"
GOOD += 'instructions: {c: {ask: "Who?", answer: I.}, d: {ask: "Where?", answer: Here.}}\n'


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("c: {ask", "c: {aks", "instructions.c.aks: unknown key; did you mean ask?"),
        ("answer: I.", "answer: 1", "instructions.c.answer: must be text, is 1; put it in quotes"),
        (
            "A text that is long enough.",
            "short",
            "passages.a: 'short' is not valid; give a text of 20 to 4,000 characters",
        ),
        ("Where?", "Who?", "instructions.d.ask: is the same text as instructions.c.ask; keep one"),
        ("passages", "passage", "passage: unknown key; did you mean passages?"),
        (", b: Another text that is long enough.", "", "passages: has only 1 of at least 2; add more"),
        ("d: {", "c: {", "c: the key stands twice"),
    ],
)
def test_malformed_texts_are_one_line(tmp_path, monkeypatch, old, new, line):
    path = tmp_path / "texts.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError) as error:
        texts.load_texts(path)
    assert str(error.value).startswith(f"{path}: {line}") and "\n" not in str(error.value)


def test_texts_are_read_before_the_first_job_where_they_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(texts.load_texts, "__defaults__", (tmp_path / "none.yaml",))
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("side_effects: true\n")
    assert load_config(["config.yaml"])["side_effects"] is False
    with pytest.raises(UserError, match="none.yaml: no such file"):
        load_config(["config.yaml", overlay])
