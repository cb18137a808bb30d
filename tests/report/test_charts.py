"""Every chart is drawn from small tables, in every shape an experiment can have, and loads nothing from elsewhere."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import polars as pl
import pytest

from hidden_rule.core.tables import METRICS, write_table
from hidden_rule.experiment.results import Results, UndeclaredInputError, excerpt
from hidden_rule.report.charts.build import CHARTS, build_charts, render_charts
from hidden_rule.report.charts.learning import learning_chart
from hidden_rule.report.charts.style import CONDITION_COLOURS, UNTRAINED, condition_colours
from hidden_rule.report.charts.training import training_chart
from hidden_rule.statistics.confusion import confusion_table
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.task.ruleset import PublishedFigures
from synthetic import WORLD, make_ruleset, world_config, write_results, write_world

NAMES = [name for name in CHARTS if name != "labels"]  # of an experiment whose conditions share their labels
SIZES = [("test", "structured", 42, 0), ("holdout", "structured", 84, 1000), ("test", "free", 42, 0)]
STUDY = PublishedFigures("a study", accuracy={"baseline": 0.3, "left_out": 0.5}, hidden_recall={"sft": 0.8})


def world(folder, ruleset, conditions=None, seeds=(0,), n_steps=30) -> Results:
    """The results of a made-up world."""
    return write_results(folder, ruleset, conditions, seeds, n_steps=n_steps, sizes=SIZES)


def text_of(path) -> str:
    """The text of an SVG."""
    return "".join(ElementTree.parse(path).getroot().itertext())


def texts_of(results, folder) -> dict[str, str]:
    """Draw the charts as SVG; their text by name."""
    paths = {name: folder / "charts" / f"{name}.svg" for name in NAMES}
    render_charts(results, paths.values())
    return {name: text_of(path) for name, path in paths.items()}


def diamonds(chart) -> set[float]:
    """The values of the published figures in a chart."""
    spec = chart.to_dict()
    layers = [layer for panel in spec["vconcat"] for layer in panel["layer"]]
    names = [layer["data"]["name"] for layer in layers if layer["mark"].get("shape") == "diamond"]
    return {row["value"] for name in names for row in spec["datasets"][name]}


@pytest.mark.parametrize(("n_labels", "seeds"), [(2, (0,)), (4, (0, 1)), (7, (3,))])
def test_all_charts_draw(tmp_path, n_labels, seeds):
    ruleset = make_ruleset(n_labels, "A_LABEL_WITH_QUITE_A_LONG_NAME")
    ruleset.published = STUDY
    texts = texts_of(world(tmp_path, ruleset, seeds=seeds), tmp_path)
    assert f"chance {1 / n_labels:.0%}" in texts["accuracy"]
    assert "a study" in texts["accuracy"]
    assert "n = 84" in texts["accuracy"]
    assert "(invalid)" in texts["confusion"]
    assert "loss, GRPO" in texts["training"]
    for label in ruleset.labels:  # no ellipsis: nothing is clipped
        assert label in texts["confusion"]
        assert label in texts["collapse"]
    for text in texts.values():
        assert "…" not in text
        assert "left_out" not in text
    assert ("seeds pooled" in texts["accuracy"]) == (len(seeds) > 1)
    for name in ("forest", "calibration", "cost"):  # in the main setting
        assert "holdout, structured decoding; n = 84 applications; " in texts[name]
        assert ("2 seeds pooled" if len(seeds) > 1 else f"seed {seeds[0]} only") in texts[name]
        assert "95% CI" in texts[name]
    assert "n = 160 applications" in texts["learning"]
    assert ("95% CI of the mean" in texts["learning"]) == (len(seeds) > 1)
    assert texts["calibration"].count("ECE ") == len(WORLD)
    assert "after Holm correction for " in texts["forest"] and " planned comparisons, and" in texts["forest"]
    assert "no training" in texts["cost"]
    assert "evaluation.structured does not name suites" in texts["suites"]


def test_published_figures_stand_in_the_charts_of_their_own_policy_alone(tmp_path):
    ruleset = make_ruleset(3)
    results = world(tmp_path, ruleset)
    for study, expected in [(STUDY, ({0.3}, {0.8})), (None, (set(), set()))]:
        ruleset.published = study
        charts = build_charts(results, ["accuracy", "hidden_rule"])
        assert (diamonds(charts["accuracy"]), diamonds(charts["hidden_rule"])) == expected
        for chart in charts.values():
            assert ("Diamond" in str(chart.to_dict())) == (study is not None)


def test_charts_read_only_what_their_rule_declares(tmp_path):
    results = world(tmp_path, make_ruleset(3))
    layout = results.layout
    declared = [layout.table(name) for name in ("metrics", "comparisons", "costs")]
    declared += [layout.predictions(run) for run in results.runs] + [layout.history(run) for run in results.trained]
    config = excerpt(results.config, results.conditions, "charts")
    assert build_charts(Results(tmp_path, config, declared, results.ruleset)).keys() == CHARTS.keys()
    with pytest.raises(UndeclaredInputError):
        build_charts(Results(tmp_path, config, declared[1:], results.ruleset))


def test_nothing_trained_is_said_in_words(tmp_path):
    texts = texts_of(world(tmp_path, make_ruleset(3), {"baseline": WORLD["baseline"]}), tmp_path)
    assert "No condition of this experiment was trained." in texts["training"]
    assert "No condition of this experiment was trained with RL." in texts["collapse"]
    assert "nothing to compare" in texts["forest"]
    for name in ("learning", "cost"):
        assert "No condition of this experiment was trained." in texts[name]


@pytest.mark.slow
def test_no_grpo(tmp_path):
    conditions = {name: WORLD[name] for name in ("baseline", "sft")}
    texts = texts_of(world(tmp_path, make_ruleset(3), conditions), tmp_path)
    assert "loss, SFT" in texts["training"]
    assert "mean reward" not in texts["training"]
    assert "No condition of this experiment was trained with RL." in texts["collapse"]


@pytest.mark.slow
def test_a_rule_that_never_fires_and_a_run_of_one_step(tmp_path):
    ruleset = make_ruleset(3)
    made = write_world(tmp_path / "made", ruleset, n_steps=1, sizes=SIZES)  # by rules that fire
    ruleset.hidden_rules = [SimpleNamespace(name="never", label=ruleset.labels[0], hidden=True, when="false")]
    results = world(tmp_path, make_ruleset(3), n_steps=1)
    metrics, _ = summarize_predictions(made.predictions, ruleset)
    write_table(metrics, tmp_path / "metrics.parquet", METRICS)
    texts = texts_of(Results(tmp_path, results.config, ruleset=ruleset), tmp_path)
    assert "undefined (n = 0)" in texts["hidden_rule"]


def test_names_with_markup_stay_text(tmp_path):
    ruleset = make_ruleset(2, '</script><script>alert("1")</script>&')
    paths = [tmp_path / f"confusion.{kind}" for kind in ("svg", "html")]
    render_charts(world(tmp_path, ruleset), paths)
    assert '</script><script>alert("1")</script>&_A' in text_of(paths[0])  # parsed as XML: text, no element
    page = paths[1].read_text(encoding="utf-8")
    assert page.count("<script>") == page.count("</script>") == 2  # the library's and the chart's


@pytest.mark.slow
def test_pages_are_self_contained_and_bitmaps_are_bitmaps(tmp_path):
    outputs = [tmp_path / "charts" / f"accuracy.{suffix}" for suffix in ("html", "png")]
    render_charts(world(tmp_path, make_ruleset(3)), outputs)
    page = outputs[0].read_text(encoding="utf-8")
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", tag)]
    assert outputs[1].read_bytes().startswith(b"\x89PNG")


def test_a_condition_has_one_colour_everywhere(tmp_path):
    world = {"a": {"method": None}, "b": {"method": "grpo"}, "c": {"method": "sft"}}
    results = Results(tmp_path, world_config(world), ruleset=make_ruleset(3))
    assert condition_colours(results) == {"a": UNTRAINED, "b": CONDITION_COLOURS[0], "c": CONDITION_COLOURS[1]}


def test_confusion_rows_sum_to_one(tmp_path):
    results = world(tmp_path, make_ruleset(3), seeds=(0, 1))
    table = confusion_table({run: results.predictions(run) for run in results.runs}, results.labels)
    sums = table.group_by("condition", "suite", "decoding", "label").agg(pl.sum("share"), pl.sum("n"))
    assert sums["share"].to_list() == pytest.approx([1.0] * sums.height)
    assert sums.filter(suite="holdout")["n"].unique().to_list() == [84 // 3 * 2]


def test_a_loss_that_is_rounding_is_not_drawn(tmp_path):
    results = world(tmp_path, make_ruleset(3), {"grpo": WORLD["grpo"]}, n_steps=5)
    path = results.layout.history(results.trained[0])
    value = pl.when(pl.col("metric") == "loss").then(1e-9).otherwise("value")
    pl.read_parquet(path).with_columns(value=value).write_parquet(path)
    training_chart(results).save(str(tmp_path / "training.svg"))
    assert "loss, GRPO: zero up to rounding, not shown" in text_of(tmp_path / "training.svg")


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_long_names_many_conditions_and_suites_are_drawn(tmp_path, n_seeds):
    """Nothing is clipped: every name and every reason stands in full in the picture."""
    names = [f"condition_{i}_with_a_rather_long_name" for i in range(8)]
    kinds = [WORLD["sft"], WORLD["grpo"] | {"start_from": names[0]}, WORLD["baseline"]]
    conditions = {name: kinds[i % 3] for i, name in enumerate(names)}
    results = world(tmp_path, make_ruleset(3), conditions, range(n_seeds), n_steps=10)
    metrics = results.metrics
    of_suites = metrics.filter(pl.col("seed").is_null(), metric="accuracy", suite="test", decoding="structured")
    metrics = pl.concat([metrics, *(of_suites.with_columns(suite=pl.lit(s)) for s in ("conflicts", "boundaries"))])
    write_table(metrics, tmp_path / "metrics.parquet", METRICS)
    config = results.config | {"charts": {"width": 560}}
    texts = texts_of(Results(tmp_path, config, ruleset=results.ruleset), tmp_path)
    for name in ("forest", "suites", "learning", "training", "calibration", "cost"):
        assert "…" not in texts[name]
        for condition, facts in conditions.items():
            if name not in ("learning", "training") or facts["method"]:
                assert condition in texts[name], name
    assert "not evaluated: ruleset lists no paraphrases" in texts["suites"]


@pytest.mark.slow
def test_more_conditions_than_colours_are_told_apart_and_legends_keep_to_the_width(tmp_path):
    names = [f"a_condition_{i}" for i in range(2 * len(CONDITION_COLOURS) + 1)]
    results = world(tmp_path, make_ruleset(3), dict.fromkeys(names, WORLD["sft"]), n_steps=5)
    charts = {"shape": learning_chart(results), "strokeDash": training_chart(results)}
    for channel, chart in charts.items():
        encodings = [part for part in walk(chart.to_dict()) if channel in part]
        for of in encodings:
            looks = zip(*(map(str, of[key]["scale"]["range"]) for key in ("color", channel)), strict=True)
            assert len(set(looks)) == len(names), channel
        assert encodings
        chart.save(str(tmp_path / f"{channel}.svg"))
        width = float(ElementTree.parse(tmp_path / f"{channel}.svg").getroot().get("width"))
        assert width < 800, channel  # plots of 300 and of twice 240 px, titles and margins


def walk(spec):
    """All encodings in the specification of a chart."""
    for part in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        yield from walk(part)
    if isinstance(spec, dict) and "encoding" in spec:
        yield spec["encoding"]


REFERENCES = {
    "boosting": {"method": None, "reference": "boosting", "accuracy": 0.99, "hidden": 0.99},
    "a_prompt": {"method": None, "prompt": "oracle", "accuracy": 0.3},
}


def marks_of(spec) -> list[dict]:
    """The marks of a chart, at every depth, with their encoding."""
    inside = [part for key in ("vconcat", "hconcat", "concat", "layer") for part in spec.get(key, ())]
    return [mark for part in inside for mark in marks_of(part)] if inside else [spec]


def test_references_stand_last_and_are_hollow(tmp_path):
    results = world(tmp_path, make_ruleset(4), WORLD | REFERENCES)
    assert results.conditions[-2:] == ["a_prompt", "boosting"]
    charts = build_charts(results, ["accuracy", "cost"])
    for chart in charts.values():
        spec = chart.to_dict()
        fills = [mark["encoding"]["fill"] for mark in marks_of(spec) if "fill" in mark["encoding"]]
        assert fills
        for fill in fills:
            assert fill["condition"] == {
                "test": {"field": "condition", "oneOf": ["a_prompt", "Gradient boosting"]},
                "value": "white",
            }
        assert any("Hollow: references" in line for line in spec["title"]["subtitle"])
    panel = charts["accuracy"].to_dict()["vconcat"][0]["layer"][-1]
    assert panel["encoding"]["y"]["sort"] == ["Untrained", "GRPO", "SFT", "SFT → GRPO", "a_prompt", "Gradient boosting"]
    facts = REFERENCES["boosting"] | {"sizes": SIZES[:2]}  # a classifier does not answer freely
    silent = world(tmp_path / "silent", make_ruleset(4), WORLD | {"boosting": facts})
    panels = build_charts(silent, ["accuracy"])["accuracy"].to_dict()["vconcat"]
    named = ["Gradient boosting" in panel["layer"][-1]["encoding"]["y"]["scale"]["domain"] for panel in panels]
    assert named == [True, True, False]


@pytest.mark.parametrize(
    ("purpose", "seeds", "title", "first_line"),
    [
        ("smoke", (0,), ["Smoke test: numbers mean nothing"], "One seed: not for decisions"),
        ("smoke", (0, 1), ["Smoke test: numbers mean nothing"], None),
        ("comparison", (2,), [], "One seed: not for decisions"),
        ("comparison", (0, 1), [], None),
    ],
)
def test_every_chart_says_what_its_run_is_not_for(tmp_path, purpose, seeds, title, first_line):
    """Charts travel alone, empty ones too."""
    only = {"baseline": WORLD["baseline"]}
    results = write_results(tmp_path, make_ruleset(3), only, seeds, {"purpose": purpose}, sizes=SIZES)
    for name, chart in build_charts(results).items():
        shown = chart.to_dict()["title"]
        heads = shown["text"] if isinstance(shown["text"], list) else [shown["text"]]
        assert heads[:-1] == title, name
        assert ("color" in shown) == bool(title), name
        lines = shown.get("subtitle", [])
        assert (lines[:1] == [first_line]) if first_line else ("One seed: not for decisions" not in lines), name
