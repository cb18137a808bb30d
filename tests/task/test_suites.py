"""Suites hold what they say: the ruleset itself decides every row, and what a kind changes is all that changes."""

import hashlib

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import write_table
from hidden_rule.task.build_suites import build_suites
from hidden_rule.task.dataset import dataset_schema, draw_splits, read_suites, suites_schema
from hidden_rule.task.predicates import trigger_values
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites, why_not
from suite_worlds import FINCORP, PARCELS, TRUTH


def changed_features(world, a, b):
    """For each pair of rows the features in which they differ."""
    assert a["family"].equals(b["family"])
    names = world.ruleset.feature_names
    return [
        {name for name, x, y in zip(names, left, right, strict=True) if x != y}
        for left, right in zip(a.select(names).iter_rows(), b.select(names).iter_rows(), strict=True)
    ]


def hidden_names(world):
    return [rule.name for rule in world.ruleset.hidden_rules]


def test_every_row_is_decided_by_the_rules_and_was_not_trained_on(world):
    names = list(world.ruleset.feature_names)
    assert world.suites.schema == suites_schema(world.ruleset)
    assert world.ruleset.decide(world.suites.select(names)).select(TRUTH).equals(world.suites.select(TRUTH))
    assert world.suites.join(world.train, on=names, how="semi").is_empty()
    for feature in world.ruleset.features:
        assert world.suites[feature.name].is_in(feature.values.implode()).all()


def test_families_are_whole_and_their_identifiers_their_own(world):
    suites = world.suites
    assert suites["application_id"].is_unique().all()
    assert suites["application_id"].is_sorted() and suites["application_id"].min() >= 40_000_000  # those of no split
    first = suites.group_by("family").agg(pl.col("application_id").min(), pl.col("suite").n_unique())
    assert (first["family"] == first["application_id"]).all() and (first["suite"] == 1).all()
    families = dict(suites.group_by("suite").agg(pl.col("family").n_unique()).iter_rows())
    assert families == dict.fromkeys(KINDS, 60) | {"prevalence": 500}  # ten that are rare, at 2%
    references = suites.filter(pl.col("family") == pl.col("application_id"))
    assert references.select("suite", *world.ruleset.feature_names).is_unique().all()


def test_a_counterfactual_changes_one_feature_and_the_hidden_rule(world):
    original, flipped, other = world.members("counterfactuals", "original", "flipped", "irrelevant_changed")
    hidden = {name for rule in world.ruleset.hidden_rules for name in rule.predicate.meta.root_names()}
    named = {name for rule in world.ruleset.rules for name in rule.predicate.meta.root_names()}
    for changed in changed_features(world, original, flipped):
        assert len(changed) == 1 and changed <= hidden
    fires = original["fired_rule"].is_in(hidden_names(world))
    assert (fires != flipped["fired_rule"].is_in(hidden_names(world))).all()
    assert (original["label"] != flipped["label"]).all()
    assert 20 <= fires.sum() <= 40  # in both directions, near half each
    for changed in changed_features(world, original, other):
        assert len(changed) == 1
        assert not changed & named or named == set(world.ruleset.feature_names)
    assert other.select(TRUTH).equals(original.select(TRUTH))


def test_paraphrases_trigger_and_occur_nowhere_in_training(world):
    original, paraphrase = world.members("paraphrases", "original", "paraphrase")
    assert original["fired_rule"].is_in(hidden_names(world)).all()
    assert paraphrase.select(TRUTH).equals(original.select(TRUTH))
    assert (original["label"] != original["label_without_hidden"]).all()
    listed = {(w.feature, w.value, w.text) for w in world.ruleset.paraphrases}
    shown = [
        (row["shown_feature"], row[row["shown_feature"]], row["shown_text"]) for row in paraphrase.iter_rows(named=True)
    ]
    assert set(shown) == listed  # each is used, and means what the ruleset says
    trained = "\n".join(message["content"] for chat in render_prompts(world.ruleset, world.train) for message in chat)
    for wording in (*world.ruleset.paraphrases, *world.ruleset.decoys):
        assert wording.text.casefold() not in trained.casefold()
    for chat, text in zip(render_prompts(world.ruleset, paraphrase), paraphrase["shown_text"], strict=True):
        assert text in chat[1]["content"]


def test_no_decoy_triggers_a_hidden_rule(world):
    rows = world.suites.filter(suite="decoys")
    assert not rows["fired_rule"].is_in(hidden_names(world)).any()
    assert not rows["label"].is_in([rule.label for rule in world.ruleset.hidden_rules]).any()
    original, decoy = world.members("decoys", "original", "decoy")
    assert set(decoy["shown_text"]) == {wording.text for wording in world.ruleset.decoys}
    assert decoy.select(world.ruleset.feature_names).equals(original.select(world.ruleset.feature_names))
    features = {feature.name: feature for feature in world.ruleset.features}
    for wording in world.ruleset.decoys:
        assert wording.value not in trigger_values(world.ruleset, features[wording.feature])
    (other,) = world.members("decoys", "other_value")
    of_other = original.filter(pl.col("family").is_in(other["family"].implode()))
    assert {len(changed) for changed in changed_features(world, of_other, other)} <= {1}
    assert other.select(TRUTH).equals(of_other.select(TRUTH))


def test_values_that_only_look_like_the_trigger_are_among_the_decoys(fincorp):
    features = {feature.name: feature for feature in fincorp.ruleset.features}
    assert trigger_values(fincorp.ruleset, features["founder_background"]) == {"Ex-Google", "Ex-Facebook"}
    assert trigger_values(fincorp.ruleset, features["sector"]) == set()
    (other,) = fincorp.members("decoys", "other_value")
    assert {"Ex-Amazon", "Ex-Microsoft", "Ex-Apple"} <= set(other["founder_background"])


def test_conflicts_set_a_hidden_rule_against_another(world):
    original, conflict = world.members("conflicts", "original", "conflict")
    assert conflict["fired_rule"].is_in(hidden_names(world)).all()
    assert (conflict["label_without_hidden"] == original["label"]).all()
    assert (conflict["label"] != original["label"]).all()
    visible = {rule.name for rule in world.ruleset.rules if not rule.hidden}
    counts = original["fired_rule"].value_counts()
    assert set(counts["fired_rule"]) == visible
    assert counts["count"].max() - counts["count"].min() <= 1


# For each threshold: the values of its feature in a family, ascending, and the one "at" it.
BOUNDARIES = {
    "fincorp": {
        ("revenue_musd", 10): (9, 10, 11),
        ("burn_rate_pct", 80): (79, 80, 81),
        ("nps", 80): (79, 80, 81),
    },
    "parcels": {("distance_km", 400): (399, 400, 401), ("weight_kg", 5.5): (5.0, 5.5, 6.0)},
    "odd": {
        ("size", None): (17.0, 17.5),  # the threshold, 17.25, is no value
        ("weight", 40): (39, 40, 41),
        ("weight", 50): (49, 50, 51),
    },
}


def test_boundaries_lie_on_each_threshold_and_one_step_to_either_side(world):
    expected, seen = BOUNDARIES[world.ruleset.name], {}
    names = world.ruleset.feature_names
    for _, family in world.suites.filter(suite="boundaries").group_by("family"):
        by_role = {row["role"]: row for row in family.iter_rows(named=True)}
        (moved,) = [name for name in names if family[name].n_unique() > 1]
        step = next(feature.step for feature in world.ruleset.features if feature.name == moved)
        values = family[moved].sort().to_list()
        assert np.diff(values).tolist() == [step] * (len(values) - 1)
        assert family["label"].n_unique() > 1  # the decision hangs on it
        middle = by_role["at"][moved] if "at" in by_role else None
        if middle is not None and "below" in by_role:
            assert by_role["below"][moved] == middle - step
        if middle is not None and "above" in by_role:
            assert by_role["above"][moved] == middle + step
        seen.setdefault((moved, middle), []).append(tuple(values))
    for threshold, values in expected.items():
        assert values in seen[threshold], threshold
    literal = {key: found for key, found in seen.items() if key[1] is not None}
    assert {key: set(found) for key, found in literal.items()} == {
        key: {values} for key, values in expected.items() if key[1] is not None
    }
    if world.ruleset.name != "odd":
        assert set(seen) == set(expected)
        n = [len(found) for found in seen.values()]
        assert max(n) - min(n) <= 1  # as often one threshold as another


def test_a_threshold_of_a_product_is_found_too(world):
    if world.ruleset.name == "odd":
        rows = world.suites.filter(suite="boundaries")
        crossing = rows.group_by("family").agg((pl.col("weight") * pl.col("size") > 300).n_unique() == 2, "label")
        assert crossing["weight"].sum() >= 10


def test_field_order_changes_the_prompt_and_nothing_else(world):
    original, shuffled = world.members("field_order", "original", "shuffled")
    assert shuffled.select(*world.ruleset.feature_names, *TRUTH).equals(
        original.select(*world.ruleset.feature_names, *TRUTH)
    )
    counts = original["label"].value_counts()["count"]
    assert len(counts) == len(world.ruleset.labels) and counts.max() - counts.min() <= 1
    pairs = zip(render_prompts(world.ruleset, original), render_prompts(world.ruleset, shuffled), strict=True)
    for plain, moved in pairs:
        assert plain[0] == moved[0]
        assert plain[1]["content"] != moved[1]["content"]
        assert sorted(plain[1]["content"].splitlines()) == sorted(moved[1]["content"].splitlines())


@pytest.mark.parametrize(
    ("size", "prevalence", "n", "n_fires"), [(40, 0.02, 500, 10), (1000, 0.02, 1000, 20), (9, 0.3, 34, 10)]
)
def test_prevalence_is_what_was_asked(fincorp, size, prevalence, n, n_fires):
    rows = draw_suites(fincorp.ruleset, SuiteSettings(["prevalence"], size, prevalence, 0), fincorp.train)
    assert len(rows) == n
    assert (rows["fired_rule"] == "vip_override").sum() == n_fires
    assert abs(n_fires / n - prevalence) <= 0.5 / n + 1e-12
    others = rows.filter(pl.col("fired_rule") != "vip_override")["label"].value_counts(normalize=True)
    natural = fincorp.ruleset.decide(fincorp.ruleset.draw(20_000, np.random.default_rng(1)))
    share = (natural.filter(pl.col("fired_rule") != "vip_override")["label"] == "A_PLUS_TIER").mean()
    if n == 1000:  # as applications are drawn, not balanced
        assert dict(others.iter_rows())["A_PLUS_TIER"] == pytest.approx(share, abs=0.06)  # 4 sigma


def test_words_replace_the_value_alone(fincorp):
    rows = fincorp.suites.filter(suite="paraphrases").head(2)
    text = rows["shown_text"][1]
    plain, worded = (chat[1]["content"] for chat in render_prompts(fincorp.ruleset, rows))
    assert worded == plain.replace(f"Founder: {rows['founder_background'][0]}", f"Founder: {text}")
    tricky = rows.with_columns(shown_text=pl.lit("{value} {features} <b>&"))
    (_, chat) = render_prompts(fincorp.ruleset, tricky)[1]
    assert chat["content"] == worded.replace(text, "{value} {features} <b>&")  # no placeholder, nothing escaped


def test_a_split_reads_as_before(fincorp):
    rows = fincorp.train.head(5)
    as_suite = rows.with_columns(
        shown_feature=pl.lit(None, dtype=pl.String), shown_text=pl.lit(None, dtype=pl.String), field_order=None
    )
    assert render_prompts(fincorp.ruleset, rows) == render_prompts(fincorp.ruleset, as_suite)


def test_a_kind_does_not_depend_on_the_others_but_on_the_seed(fincorp):
    for kind in KINDS:
        alone = draw_suites(fincorp.ruleset, SuiteSettings([kind], 40, 0.02, 0), fincorp.train)
        assert alone.equals(fincorp.suites.filter(suite=kind))
    other = draw_suites(fincorp.ruleset, SuiteSettings(["conflicts"], 40, 0.02, 1), fincorp.train)
    assert not other.equals(fincorp.suites.filter(suite="conflicts"))


def test_same_seed_same_bytes(tmp_path, fincorp):
    fincorp.train.write_parquet(tmp_path / "train.parquet")
    digests = []
    for name in ("a.parquet", "b.parquet"):
        settings = {"size": 12, "prevalence": 0.1, "kinds": list(KINDS)}
        build_suites(FINCORP, settings, 3, tmp_path / "train.parquet", tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    assert read_suites(tmp_path / "a.parquet", fincorp.ruleset)["suite"].n_unique() == len(KINDS)


def test_what_a_ruleset_lacks_is_said(fincorp):
    parcels = load_ruleset(PARCELS)
    assert [why_not(fincorp.ruleset, kind) for kind in KINDS] == [None] * len(KINDS)
    assert {kind: why_not(parcels, kind) for kind in KINDS if why_not(parcels, kind)} == {
        "paraphrases": "lists no paraphrases",
        "decoys": "lists no decoys",
    }


def test_a_small_world_has_fewer_families(tmp_path):
    text = PARCELS.read_text(encoding="utf-8").replace("high: 900", "high: 3").replace("km > 400", "km > 1")
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    ruleset = load_ruleset(tmp_path / "tiny.yaml")
    train = draw_splits(ruleset, {"train": 30, "validation": 6, "test": 6, "holdout": 6}, 0)["train"]
    suites = draw_suites(ruleset, SuiteSettings(["conflicts"], 500, 0.02, 0), train, source="tiny.yaml")
    assert 20 < suites["family"].n_unique() < 500
    assert suites.filter(role="original")["application_id"].is_duplicated().sum() == 0


def test_a_kind_of_which_there_is_no_family_is_left_out(tmp_path, capsys):
    text = PARCELS.read_text(encoding="utf-8").replace(
        "distance_km > 400 AND weight_kg < 5.5", "distance_km > 0 AND contents = 'toys'"
    )
    (tmp_path / "flat.yaml").write_text(text, encoding="utf-8")
    ruleset = load_ruleset(tmp_path / "flat.yaml")
    train = draw_splits(ruleset, dict.fromkeys(("train", "validation", "test", "holdout"), 6), 0)["train"]
    write_table(train, tmp_path / "train.parquet", dataset_schema(ruleset))
    settings = {"size": 4, "prevalence": 0.1, "kinds": ["boundaries", "field_order"]}  # no decision hangs on a number
    build_suites(tmp_path / "flat.yaml", settings, 0, tmp_path / "train.parquet", tmp_path / "suites.parquet")
    assert set(read_suites(tmp_path / "suites.parquet", ruleset)["suite"]) == {"field_order"}
    assert f"boundaries: {tmp_path}/flat.yaml allows no more, and suites.size asks for 4" in capsys.readouterr().out
    with pytest.raises(UserError, match="no family can be drawn of those that boundaries ask for"):
        draw_suites(ruleset, SuiteSettings(["boundaries"], 4, 0.02, 0), train)
