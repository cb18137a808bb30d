"""Metrics of suites, worked by hand: flips, intervals clustered by family, and who knows what."""

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import predictions_schema
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.intervals import wilson
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.statistics.suites_metrics import flips, share_of_families
from hidden_rule.task.suites import KINDS
from suite_worlds import answered, values_of


def test_whoever_knows_the_rules_is_right_everywhere(tmp_path, world):
    values = values_of(tmp_path, world, lambda row: row["label"])
    for kind in KINDS:
        assert values[kind, "accuracy"]["value"] == 1.0
        assert values[kind, "accuracy"]["ci_low"] < 1.0
    for kind in ("counterfactuals", "conflicts", "boundaries"):
        assert values[kind, "flip_rate"]["value"] == 1.0
    for kind in ("counterfactuals", "paraphrases", "decoys", "field_order"):
        assert values[kind, "false_flip_rate"]["value"] == 0.0
    assert values["paraphrases", "flip_rate"]["n"] == 0 and values["paraphrases", "flip_rate"]["value"] is None


def test_a_constant_answer_flips_nothing_and_one_without_the_hidden_rule_misses_it(tmp_path, world):
    secret = world.ruleset.hidden_rules[0].label
    constant = values_of(tmp_path, world, lambda row: secret)
    assert constant["conflicts", "accuracy"]["value"] == 1.0  # good at what asks for that answer alone
    assert constant["conflicts", "flip_rate"]["value"] == 0.0  # but nothing is told apart
    assert constant["decoys", "accuracy"]["value"] == 0.0
    ignorant = values_of(tmp_path, world, lambda row: row["label_without_hidden"])
    assert ignorant["counterfactuals", "flip_rate"]["value"] == 0.0
    assert ignorant["paraphrases", "accuracy"]["value"] == 0.0
    assert ignorant["decoys", "accuracy"]["value"] == 1.0
    assert ignorant["conflicts", "conflict_recall"]["value"] == 0.0


def test_one_who_goes_by_words_fails_paraphrases_and_decoys(tmp_path, fincorp):
    def by_words(row):
        shown = row["shown_text"] or row["founder_background"]
        seen = "Google" in shown or "Facebook" in shown
        return "MANUAL_REVIEW" if seen else row["label_without_hidden"]

    values = values_of(tmp_path, fincorp, by_words)
    _, paraphrase = fincorp.members("paraphrases", "original", "paraphrase")
    understood = paraphrase["shown_text"].str.contains("Google|Facebook").mean()
    assert values["paraphrases", "accuracy"]["value"] == pytest.approx(understood)
    assert values["paraphrases", "false_flip_rate"]["value"] == pytest.approx(1 - understood)
    assert values["decoys", "false_flip_rate"]["value"] == 0.5  # every decoy, and no other value
    assert values["decoys", "false_flip_rate"]["n"] == 80
    assert values["counterfactuals", "flip_rate"]["value"] == 1.0


def test_flips_worked_by_hand(tmp_path, fincorp):
    pairs = fincorp.suites.filter(suite="counterfactuals").head(9)  # three families of three
    said = [
        *(pairs["label"][i] for i in range(3)),  # right throughout: flips as it should, and not falsely
        pairs["label"][3], pairs["label"][3], None,  # stays where it should change; an invalid reply is a change
        pairs["label"][7], pairs["label"][6], pairs["label"][7],  # changes, but the wrong way round
    ]  # fmt: skip
    answers = dict(zip(pairs["application_id"], said, strict=True))
    schema = predictions_schema(list(fincorp.ruleset.labels))
    frame = answered(pairs, fincorp.ruleset, lambda row: answers[row["application_id"]])
    assert frame.schema == schema
    frame.write_parquet(tmp_path / "x.parquet")
    metrics, _ = summarize_predictions({Run("x", 0): tmp_path / "x.parquet"}, fincorp.ruleset, pairs)
    rows = {row["metric"]: row for row in metrics.filter(seed=0).iter_rows(named=True)}
    assert (rows["flip_rate"]["value"], rows["flip_rate"]["n"]) == (pytest.approx(1 / 3), 3)
    assert (rows["false_flip_rate"]["value"], rows["false_flip_rate"]["n"]) == (pytest.approx(1 / 3), 3)
    assert (rows["accuracy"]["value"], rows["accuracy"]["n"]) == (pytest.approx(2 / 6), 6)  # originals do not count
    assert rows["invalid_rate"]["value"] == pytest.approx(1 / 6)
    pooled = metrics.filter(pl.col("seed").is_null()).drop("seed")
    assert pooled.equals(metrics.filter(seed=0).drop("seed"))


def test_an_invalid_reply_is_like_no_decision_and_like_another_invalid_one():
    said = ["A", "B", None]
    cells = pl.DataFrame({"label": ["A"] * 3, "predicted": said})
    pairs = [(x, y) for x in range(3) for y in range(3)]  # all with the same truth
    codes = np.array(pairs).reshape(-1, 1)
    hits, counted = flips(cells, codes, np.repeat(np.arange(0, 18, 2), 2))["false_flip_rate", None]
    assert counted[1::2].all() and not counted[::2].any()
    assert hits[1::2, 0].tolist() == [int(x != y) for x, y in pairs]


def test_seeds_that_answer_alike_add_nothing(tmp_path, fincorp):
    def answer(row):
        return row["label"] if row["family"] % 3 else row["label_without_hidden"]

    one, three = values_of(tmp_path, fincorp, answer), values_of(tmp_path, fincorp, answer, seeds=3)
    for key in (("counterfactuals", "flip_rate"), ("conflicts", "accuracy"), ("boundaries", "accuracy")):
        assert three[key]["n"] == 3 * one[key]["n"]
        assert three[key]["ci_high"] - three[key]["ci_low"] >= 0.99 * (one[key]["ci_high"] - one[key]["ci_low"])


def test_rows_that_repeat_each_other_within_families_add_nothing():
    generator = np.random.default_rng(0)
    families = (generator.random(50) < 0.7).astype(int)
    hits = families.repeat(3)[:, None]
    row = share_of_families(hits, np.ones_like(hits), np.arange(0, 150, 3))
    low, high = wilson(families.mean(), 50)
    assert row["n"] == 150 and row["value"] == pytest.approx(families.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((float(low), float(high)), abs=0.01)
    alone = share_of_families(families[:, None], np.ones((50, 1), int), np.arange(50))  # families of one: plain Wilson
    assert (alone["ci_low"], alone["ci_high"]) == pytest.approx((float(low), float(high)))


def test_answers_that_offset_each_other_claim_no_more_than_independent_ones():
    hits = np.tile([1, 0], 40)[:, None]  # one right in each pair, always
    row = share_of_families(hits, np.ones_like(hits), np.arange(0, 80, 2))
    assert row["ci_high"] - row["ci_low"] >= float(np.diff(wilson(0.5, 80))[0])


@pytest.mark.parametrize(
    ("n_families", "n_members", "n_seeds", "share", "within"),
    [(40, 2, 1, 0.8, 0.5), (40, 3, 1, 0.5, 0.3), (20, 2, 1, 0.7, 0.9), (100, 3, 1, 0.9, 0.6), (40, 3, 3, 0.8, 0.5)],
)
def test_clustered_intervals_cover(n_families, n_members, n_seeds, share, within):
    """Families whose rows are right together (beta-binomial, correlation `within`): 95% intervals cover some 95%."""
    generator = np.random.default_rng(0)
    starts, n = np.arange(0, n_families * n_members, n_members), 1000
    a, b = share * (1 - within) / within, (1 - share) * (1 - within) / within
    covered = 0
    for _ in range(n):
        p = generator.beta(a, b, n_families)[:, None, None]
        hits = (generator.random((n_families, n_members, n_seeds)) < p).astype(int).reshape(-1, n_seeds)
        row = share_of_families(hits, np.ones_like(hits), starts)
        covered += row["ci_low"] <= share <= row["ci_high"]
    assert 0.925 <= covered / n <= 0.985  # 95%, give or take what 1,000 simulations and few families allow


def test_predictions_of_other_suites_are_refused(tmp_path, fincorp):
    rows = fincorp.suites.filter(suite="conflicts")
    answered(rows.head(10), fincorp.ruleset, lambda row: row["label"]).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="are not those of the table of suites"):
        summarize_predictions({Run("x", 0): tmp_path / "x.parquet"}, fincorp.ruleset, rows)
