"""Every chart is drawn from small tables, in every shape an experiment can have, and loads nothing from elsewhere."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import polars as pl
import pytest

from hidden_rule.report.charts.build import build_charts, confusion_table
from hidden_rule.report.charts.learning import learning_chart
from hidden_rule.report.charts.style import CONDITION_COLOURS, UNTRAINED, palette, readings
from hidden_rule.report.charts.training import MAX_POINTS, read_curves, training_chart
from hidden_rule.statistics.metrics import summarize_predictions
from render_charts import render_charts
from synthetic import WORLD, make_ruleset, write_world

NAMES = [
    "accuracy", "forest", "hidden_rule", "suites", "cost", "confusion", "calibration", "learning", "training",
    "collapse",
]  # fmt: skip
SIZES = [("test", "structured", 42, 0), ("holdout", "structured", 84, 1000), ("test", "free", 42, 0)]
PUBLISHED = {"source": "a study", "accuracy": {"baseline": 0.3, "of_nobody": 0.5}, "hidden_recall": {"sft": 0.8}}
OF_WORLD = {"starts": {"sft_then_grpo": "sft"}, "lacks": {}, "n_validation": 160}


def render_world(folder, made, ruleset, config, outputs):
    """Draw the charts of a made-up world, its tables written to `folder`."""
    metrics, comparisons = summarize_predictions(made.predictions, made.jobs, ruleset)
    tables = {"metrics": metrics, "comparisons": comparisons, "costs": made.costs}
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    render_charts(
        **{name: folder / f"{name}.parquet" for name in tables}, predictions=made.predictions, jobs=made.jobs,
        histories=made.histories, trained=made.trained, labels=ruleset.labels, config=config, outputs=outputs,
        **OF_WORLD,
    )  # fmt: skip


def svgs_of(tmp_path, ruleset, world=None, seeds=(0,), n_steps=30, charts=None) -> dict[str, str]:
    """Draw all charts of a made-up world as SVG; their text by name."""
    made = write_world(tmp_path, ruleset, world, seeds, n_steps, SIZES)
    render_world(
        tmp_path, made, ruleset, charts or {"width": 300}, [tmp_path / "charts" / f"{name}.svg" for name in NAMES]
    )
    texts = {}
    for name in NAMES:
        texts[name] = "".join(ElementTree.parse(tmp_path / "charts" / f"{name}.svg").getroot().itertext())
    return texts


@pytest.mark.parametrize(("n_labels", "seeds"), [(2, (0,)), (4, (0, 1)), (7, (3,))])
def test_all_charts_draw(tmp_path, n_labels, seeds):
    ruleset = make_ruleset(n_labels, "A_LABEL_WITH_QUITE_A_LONG_NAME")
    texts = svgs_of(tmp_path, ruleset, seeds=seeds, charts={"width": 300, "published": PUBLISHED})
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
        assert "of_nobody" not in text
    assert ("seeds pooled" in texts["accuracy"]) == (len(seeds) > 1)
    for name in ("forest", "calibration", "cost"):  # of the main reading
        assert "holdout, structured decoding; n = 84 applications; " in texts[name]
        assert ("2 seeds pooled" if len(seeds) > 1 else f"seed {seeds[0]} alone") in texts[name]
        assert "95% interval" in texts[name]
    assert "n = 160 applications" in texts["learning"]
    assert ("95% interval of that mean" in texts["learning"]) == (len(seeds) > 1)
    assert texts["calibration"].count("ECE ") == len(WORLD)
    assert "adjusted for 6 pairs (Holm)" in texts["forest"]
    assert "no training" in texts["cost"]
    assert "evaluation.structured does not name suites" in texts["suites"]


def test_nothing_trained_is_said_in_words(tmp_path):
    texts = svgs_of(tmp_path, make_ruleset(3), {"baseline": WORLD["baseline"]})
    assert "No condition of this experiment was trained." in texts["training"]
    assert "No condition of this experiment was trained by reward." in texts["collapse"]
    assert "nothing to compare" in texts["forest"]
    for name in ("learning", "cost"):
        assert "No condition of this experiment was trained." in texts[name]


def test_no_grpo(tmp_path):
    texts = svgs_of(tmp_path, make_ruleset(3), {name: WORLD[name] for name in ("baseline", "sft")})
    assert "loss, SFT" in texts["training"]
    assert "mean reward" not in texts["training"]
    assert "No condition of this experiment was trained by reward." in texts["collapse"]


def test_a_rule_that_never_fires_and_a_run_of_one_step(tmp_path):
    ruleset = make_ruleset(3)
    silent = SimpleNamespace(name="never", label=ruleset.labels[0], hidden=True, when="false")
    without = SimpleNamespace(labels=ruleset.labels, default=ruleset.default, hidden_rules=[silent])
    made = write_world(tmp_path, ruleset, n_steps=1, sizes=SIZES)
    metrics, comparisons = summarize_predictions(made.predictions, made.jobs, without)
    charts = build_charts(
        metrics, made.predictions, made.jobs, made.histories, made.trained, ruleset.labels, {"width": 300},
        comparisons=comparisons, costs=made.costs, **OF_WORLD,
    )  # fmt: skip
    for name, chart in charts.items():
        chart.save(str(tmp_path / f"{name}.svg"))
    assert "undefined: no such rows" in (tmp_path / "hidden_rule.svg").read_text()


def test_names_with_markup_stay_text(tmp_path):
    ruleset = make_ruleset(2, '</script><script>alert("1")</script>&')
    made, paths = (
        write_world(tmp_path, ruleset, sizes=SIZES),
        [tmp_path / f"confusion.{kind}" for kind in ("svg", "html")],
    )
    render_world(tmp_path, made, ruleset, {"width": 300}, paths)
    drawn = "".join(ElementTree.parse(paths[0]).getroot().itertext())  # parsed as XML: text, no element
    assert '</script><script>alert("1")</script>&_A' in drawn
    page = paths[1].read_text(encoding="utf-8")
    assert page.count("<script>") == page.count("</script>") == 2  # the library's and the chart's


def test_pages_are_self_contained_and_bitmaps_are_bitmaps(tmp_path):
    ruleset = make_ruleset(3)
    made = write_world(tmp_path, ruleset, n_steps=20, sizes=SIZES)
    outputs = [tmp_path / "charts" / f"accuracy.{suffix}" for suffix in ("html", "png")]
    render_world(tmp_path, made, ruleset, {"width": 300}, outputs)
    page = outputs[0].read_text(encoding="utf-8")
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", tag)]
    assert outputs[1].read_bytes().startswith(b"\x89PNG")


def test_a_condition_has_one_colour_everywhere():
    jobs = [["a", 0], ["b", 0], ["b", 1], ["c", 0]]
    assert palette(jobs, [["c", 0, "sft"], ["b", 0, "grpo"]]) == {
        "a": UNTRAINED,
        "b": CONDITION_COLOURS[0],
        "c": CONDITION_COLOURS[1],
    }


def test_the_main_reading_comes_first():
    rows = [("test", "free"), ("test", "structured"), ("holdout", "structured"), ("holdout", "free")]
    rows += [("boundaries", "structured")]  # a suite: no reading of its own
    frame = pl.DataFrame(rows, schema=["suite", "decoding"], orient="row")
    assert readings(frame)[0] == ("holdout", "structured") and len(readings(frame)) == 4
    assert readings(frame.filter(suite="test"))[0] == ("test", "structured")


def test_confusion_rows_sum_to_one(tmp_path):
    ruleset = make_ruleset(3)
    made = write_world(tmp_path, ruleset, seeds=(0, 1), sizes=SIZES)
    table = confusion_table(made.predictions, made.jobs, list(ruleset.labels))
    sums = table.group_by("condition", "suite", "decoding", "label").agg(pl.sum("share"), pl.sum("n"))
    assert sums["share"].to_list() == pytest.approx([1.0] * sums.height)
    assert sums.filter(suite="holdout")["n"].unique().to_list() == [84 // 3 * 2]


def test_long_curves_are_averaged_and_short_ones_are_not(tmp_path):
    made = write_world(tmp_path, make_ruleset(3), {"sft": WORLD["sft"]}, n_steps=950, sizes=SIZES)
    curves = read_curves(made.histories, made.trained)
    loss, accuracy = curves.filter(metric="loss"), curves.filter(metric="validation_accuracy")
    assert loss.height <= MAX_POINTS
    full = pl.read_parquet(made.histories[0]).filter(metric="loss")
    assert loss["value"][0] == pytest.approx(full["value"][:10].mean())
    assert accuracy["window"].unique().to_list() == [1]


def test_a_loss_that_is_rounding_is_not_drawn(tmp_path):
    made = write_world(tmp_path, make_ruleset(3), {"grpo": WORLD["grpo"]}, n_steps=5, sizes=SIZES)
    history = pl.read_parquet(made.histories[0])
    is_loss = pl.col("metric") == "loss"
    history.with_columns(value=pl.when(is_loss).then(1e-9).otherwise("value")).write_parquet(made.histories[0])
    training_chart(made.histories, made.trained, {"grpo": "#000000"}, ["a", "b"], {"width": 300}).save(
        str(tmp_path / "training.svg")
    )
    text = (tmp_path / "training.svg").read_text()
    assert "loss, GRPO: zero but for rounding, not shown" in text


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_long_names_many_conditions_and_suites_are_drawn(tmp_path, n_seeds):
    """Nothing is clipped: every name and every reason stands in full in the picture."""
    ruleset = make_ruleset(3)
    names = [f"condition_{i}_with_a_rather_long_name" for i in range(8)]
    kinds = [WORLD["sft"], WORLD["grpo"], WORLD["baseline"]]
    world = {name: kinds[i % 3] for i, name in enumerate(names)}
    made = write_world(tmp_path, ruleset, world, range(n_seeds), 10, SIZES)
    metrics, comparisons = summarize_predictions(made.predictions, made.jobs, ruleset)
    of_suites = metrics.filter(pl.col("seed").is_null(), metric="accuracy", suite="test", decoding="structured")
    metrics = pl.concat([metrics, *(of_suites.with_columns(suite=pl.lit(s)) for s in ("conflicts", "boundaries"))])
    charts = build_charts(
        metrics, made.predictions, made.jobs, made.histories, made.trained, ruleset.labels, {"width": 560},
        comparisons=comparisons, costs=made.costs, starts={names[1]: names[0]}, n_validation=160,
        lacks={"paraphrases": "lists no paraphrases"},
    )  # fmt: skip
    for name in ("forest", "suites", "learning", "training", "calibration", "cost"):
        path = tmp_path / f"{name}.svg"
        charts[name].save(str(path))
        lines = [element.text for element in ElementTree.parse(path).iter() if element.text and element.text.strip()]
        text = "".join(lines)
        assert "…" not in text
        for condition, facts in world.items():
            if name not in ("learning", "training") or facts["method"]:
                assert condition in text, name
        if name == "suites":
            assert "not evaluated: ruleset lists no paraphrases" in text


def test_more_conditions_than_colours_are_told_apart_and_legends_keep_to_the_width(tmp_path):
    names = [f"a_condition_{i}" for i in range(2 * len(CONDITION_COLOURS) + 1)]
    made = write_world(tmp_path, make_ruleset(3), dict.fromkeys(names, WORLD["sft"]), n_steps=5, sizes=SIZES)
    colours, config = palette(made.jobs, made.trained), {"width": 400}
    charts = {
        "shape": learning_chart(made.histories, made.trained, colours, ["a", "b"], config, 40, {}),
        "strokeDash": training_chart(made.histories, made.trained, colours, ["a", "b"], config),
    }
    for channel, chart in charts.items():
        encodings = [part for part in walk(chart.to_dict()) if channel in part]
        for of in encodings:
            looks = zip(*(map(str, of[key]["scale"]["range"]) for key in ("color", channel)), strict=True)
            assert len(set(looks)) == len(names), channel
        assert encodings
        chart.save(str(tmp_path / f"{channel}.svg"))
        width = float(ElementTree.parse(tmp_path / f"{channel}.svg").getroot().get("width"))
        assert width < 2 * config["width"], channel  # beside plots of 400 and of twice 280 px: titles and margins


def walk(spec):
    """All encodings in the specification of a chart."""
    for part in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        yield from walk(part)
    if isinstance(spec, dict) and "encoding" in spec:
        yield spec["encoding"]
