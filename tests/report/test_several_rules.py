"""Rulesets with several hidden rules: what the page, its charts and its sentences say of each."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import polars as pl
from test_labels import ROWS, metrics_of
from test_sentences import TEMPLATE, answer_text, hold, page_text

from hidden_rule.core.tables import COMPARISONS, FEASIBILITY, METRICS, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Guess, Setting, find_estimate
from hidden_rule.report import side_effects_page, tables
from hidden_rule.report.charts.build import render_charts
from hidden_rule.report.charts.labels import label_chart
from hidden_rule.report.page import build_report, render_report
from hidden_rule.report.publish import main_table
from hidden_rule.report.text.evidence import on_hidden_rule
from hidden_rule.report.text.findings import conclude, headline
from hidden_rule.report.text.label_findings import label_sentences
from hidden_rule.report.text.rule_learning import OnHiddenRule, hidden_sentences
from hidden_rule.report.text.suites import SUITES, suite_findings, suite_rows
from hidden_rule.statistics import feasibility
from hidden_rule.statistics.side_effects_summary import summarize
from hidden_rule.task.nouns import APPLICATION
from synthetic import EFFECTS, leaks_of, make_ruleset
from worlds import ONE_OF_TWO, SEVERAL, results_of

MAIN = Setting("holdout", "structured")
RULES = ["rule_0", "rule_1", "rule_nowhere"]


def test_the_page_of_a_world_in_which_one_of_two_hidden_rules_is_learned(tmp_path):
    results = results_of(tmp_path, ONE_OF_TWO, SEVERAL)
    hold("world one of two hidden rules", answer_text(conclude(results)))
    page = page_text(render_report(build_report(results), TEMPLATE))
    hold("page one of two hidden rules", page)
    assert "nan" not in re.findall(r"[a-z]+", page.lower()) and "None" not in page


def text_of(path) -> str:
    return " ".join(text for text in ElementTree.parse(path).getroot().itertext() if text.strip())


def test_the_charts_of_several_hidden_rules(tmp_path):
    results = results_of(tmp_path, ONE_OF_TWO, SEVERAL, seeds=(0, 1))
    path = tmp_path / "charts" / "hidden_rule.svg"
    render_charts(results, [path])
    text = text_of(path)
    assert all(f"{rule} Recall (n = 200)" in text for rule in ("rule_0", "rule_1"))
    assert "all hidden rules Recall (n = 400)" in text and "No case: rule_nowhere" in text
    assert "undefined" not in text and "NaN" not in text


def test_a_ruleset_without_hidden_rules_says_nothing_of_any(tmp_path):
    results = results_of(
        tmp_path, {"baseline": {"accuracy": 0.25}, "sft": {"accuracy": 0.9}}, make_ruleset(3, n_hidden=0)
    )
    page = page_text(render_report(build_report(results), TEMPLATE))
    shown = [line for line in page.splitlines() if "hidden" in line.lower()]
    assert shown == ["order | rule | when | decision | hidden |"]  # the column of the table of rules
    render_charts(results, [tmp_path / "hidden_rule.svg"])
    assert text_of(tmp_path / "hidden_rule.svg").startswith("The ruleset has no hidden rule.")


def test_tables_have_a_row_for_each_hidden_rule(tmp_path):
    results = results_of(tmp_path, ONE_OF_TWO, SEVERAL, seeds=(0, 1))
    shown = tables.hidden_rules_table(results, MAIN)
    rows = [row[:4] for row in shown["rows"]]
    assert [(row[0], row[1]) for row in rows] == [(rule, name) for rule in RULES for name in results.conditions]
    assert {row[2] for row in rows if row[0] == "rule_1"} == {"400"}
    assert {tuple(row[2:]) for row in shown["rows"] if row[0] == "rule_nowhere"} == {("0", "no case", "–", "–")}
    of_seeds = tables.seed_table(results, MAIN)
    assert of_seeds["columns"][3:7] == [
        "hidden rules: recall",
        "hidden rules: precision",
        "hidden rule rule_0: recall",
        "hidden rule rule_0: precision",
    ]
    assert {len(row) for row in of_seeds["rows"]} == {len(of_seeds["columns"])}
    metrics = {row[1] for row in tables.comparison_table(results, MAIN)["rows"]}
    assert metrics == {"accuracy", "hidden rules: recall", "hidden rule rule_0: recall", "hidden rule rule_1: recall"}
    assert "precision on rule_1" in main_table(results, beside_study=False).splitlines()[0]


def test_first_groups_of_each_hidden_rule():
    rows = pl.DataFrame(
        [("hidden", "rule_0", 0.5), ("hidden", "rule_1", 0.01), ("all", "default", 0.5)],
        schema=["label", "fired_rule", "p"],
        orient="row",
    )
    found = feasibility.assess(rows, SEVERAL, 8, {"correct": 1, "wrong": 0})
    table = pl.DataFrame(
        [{"condition": "baseline", "start": "x", "seed": 0} | row for row in found], schema=FEASIBILITY
    )
    results = SimpleNamespace(
        feasibility=table, separate_rules=RULES, conditions=["baseline"], references=[], ruleset=SEVERAL
    )
    assert [row[1] for row in tables.feasibility_table(results)["rows"]] == [
        "all", "hidden rules", "hidden rule rule_0", "hidden rule rule_1", "decision all", "decision hidden",
    ]  # fmt: skip


def test_suites_of_each_hidden_rule(tmp_path):
    assert suite_rows([]) == list(SUITES)
    names = [(row.suite, row.metric, row.rule) for row in suite_rows(["a", "b"])]
    assert names[:3] == [("counterfactuals", "flip_rate", rule) for rule in (None, "a", "b")]
    assert ("paraphrases", "hidden_recall", "b") in names and len(names) == len(set(names))

    def row(suite, metric, rule, value, n=40):
        interval = {"ci_low": value and value - 0.05, "ci_high": value and value + 0.05}
        at = {"condition": "x", "seed": None, "suite": suite, "decoding": "structured", "metric": metric, "rule": rule}
        return at | {"label": None, "value": value, "n": n} | interval

    rows = [row("paraphrases", "accuracy", None, 0.5), row("paraphrases", "hidden_recall", None, 0.5)]
    rows += [
        row("paraphrases", "hidden_recall", "rule_0", 0.95),
        row("paraphrases", "hidden_recall", "rule_1", None, 0),
    ]
    rows += [
        row("counterfactuals", "flip_rate", rule, v) for rule, v in ((None, 0.5), ("rule_0", 0.95), ("rule_1", 0.1))
    ]
    metrics = pl.DataFrame(rows, schema=METRICS)
    assert suite_findings(metrics, "x", ["rule_0", "rule_1"]) == {
        "holds": ["counterfactual triggers (rule rule_0)", "paraphrased triggers (rule rule_0)"],
        "fails": ["counterfactual triggers (rule rule_1)"],
        "open": [],
    }
    write_table(metrics, tmp_path / "metrics.parquet", METRICS)
    config = {"conditions": {"x": {}}, "seeds": [0], "charts": {"width": 300}}
    results = Results(tmp_path, config | {"data": {}, "ruleset": ""}, ruleset=SEVERAL)
    assert tables.suites_table(results)["rows"] == [
        ["counterfactual trigger: flip rate (n = 40)", "50.0% (45.0–55.0)"],
        ["counterfactual trigger, rule rule_0: flip rate (n = 40)", "95.0% (90.0–100.0)"],
        ["counterfactual trigger, rule rule_1: flip rate (n = 40)", "10.0% (5.0–15.0)"],
        ["counterfactual trigger, rule rule_nowhere: flip rate", "no case"],
        ["paraphrased trigger: accuracy (n = 40)", "50.0% (45.0–55.0)"],
        ["paraphrased trigger, rule rule_0: accuracy (n = 40)", "95.0% (90.0–100.0)"],
        ["paraphrased trigger, rule rule_1: accuracy", "no case"],
        ["paraphrased trigger, rule rule_nowhere: accuracy", "no case"],
    ]
    render_charts(results, [tmp_path / "suites.svg"])
    text = text_of(tmp_path / "suites.svg")
    assert "counterfactual trigger, rule rule_1: flip rate" in text
    assert "paraphrased trigger, rule rule_1: accuracy no case" in text


def estimate(value):
    return value if value is None else Estimate(value, value - 0.04, min(1.0, value + 0.04), 100)


def on_rule(rule, recalls, precisions):
    of = [{name: estimate(value) for name, value in values.items()} for values in (recalls, precisions)]
    return OnHiddenRule(rule, *of, dict.fromkeys(recalls, 0.1))


def test_the_base_rate_of_a_rule_leaves_out_the_cases_of_others_with_its_label():
    """100 cases: 20 of a and 30 of b, whose label is the same, and 10 of c."""
    n = {("accuracy", None): 100, ("hidden_recall", "a"): 20, ("hidden_recall", "b"): 30, ("hidden_recall", "c"): 10}
    rules = [SimpleNamespace(name=name, label=label) for name, label in zip("abc", "XXY", strict=True)]
    results = SimpleNamespace(
        main=MAIN,
        ruleset=SimpleNamespace(hidden_rules=rules, case=APPLICATION),
        estimate=lambda name, setting, metric, rule=None: Estimate(0.5, 0.4, 0.6, n.get((metric, rule), 60)),
    )
    rates = {rule: on_hidden_rule(results, ["x"], rule).base_rates["x"] for rule in (None, *"abc")}
    assert rates == {None: 0.6, "a": 20 / 70, "b": 30 / 80, "c": 0.1}


def test_of_many_conditions_each_verdict_on_each_rule_is_one_sentence():
    names = [f"c{i}" for i in range(9)]
    low, high = dict.fromkeys(names, 0.05), dict.fromkeys(names, 0.95)
    nowhere = dict.fromkeys(names)
    said = hidden_sentences(names, [on_rule("a", high, high), on_rule("b", low, high), on_rule("c", nowhere, nowhere)])
    assert said[0].startswith("Rule a, learned (recall, precision): c0 (95.0%, 95.0%), c1 ")
    assert said[1].startswith("Rule b, not learned: c0 (5.0%, 95.0%), c1 ")
    assert said[2:] == ["Rule c applies to no application here and is untested."]


def test_the_headline_names_the_rules_that_were_learned():
    accuracies = {name: estimate(0.9) for name in "xy"}

    def said(**verdicts):
        return headline(["x", "y"], accuracies, [], verdicts, 0.25).split(". ", 1)[-1]

    learned, missed = {"x": "learned", "y": "missed"}, {"x": "missed", "y": "missed"}
    assert said(a=learned, b=missed).endswith("Hidden rules learned: a by x; b by none.")
    assert said(a=missed, b=missed).endswith("No condition demonstrably learned a hidden rule.")
    assert said(a=learned, b={"x": "unknown", "y": "unknown"}).endswith("Hidden rules learned: a by x.")
    many = dict.fromkeys("abcd", learned) | {"e": missed}
    assert said(**many).endswith("Most hidden rules (4 of 5) were learned by x.")
    assert "idden" not in headline(["x", "y"], accuracies, [], {}, 0.25)  # there is none


def with_rules(metrics):
    """METRICS in which the recall of rule a is that of all together, and that of rule b 0.1."""
    of_rule = metrics.filter(pl.col("metric").str.starts_with("hidden"))
    low = [pl.lit(x).alias(name) for name, x in (("value", 0.1), ("ci_low", 0.05), ("ci_high", 0.15))]
    return pl.concat(
        [metrics, of_rule.with_columns(rule=pl.lit("a")), of_rule.with_columns(*low, rule=pl.lit("b"))]
    ).select(list(METRICS))


def test_learning_curves_of_each_hidden_rule(monkeypatch):
    metrics = with_rules(metrics_of({"base": 0.25, "s_25": 0.5, "s_100": 0.9, "s_400": 0.7, "g_25": 0.2, "g_400": 0.4}))
    results = SimpleNamespace(
        metrics=metrics, supervision=ROWS, main=MAIN, chance=Guess(0.25),
        separate_rules=["a", "b"], rules_apart=["a", "b"],
        ruleset=SimpleNamespace(
            hidden_rules=[SimpleNamespace(name=name, label=name) for name in "ab"], case=APPLICATION
        ),
        comparisons=pl.DataFrame(schema=COMPARISONS),
        estimate=lambda *of: find_estimate(metrics, *of), config={"charts": {"width": 300}},
    )  # fmt: skip
    said = " ".join(label_sentences(results))
    assert re.search(r"s learned the hidden rule a with 100 labels \(tried: 25, 100 and 400\)", said), said
    assert "s did not learn the hidden rule b at any training-set size (tried: 25, 100 and 400)" in said
    monkeypatch.setattr("hidden_rule.report.charts.labels.AMOUNTS", ["n_labels"])  # one row of panels is enough
    text = str(label_chart(results).to_dict(validate=False))
    assert "recall on a" in text and "recall on b" in text
    assert "250 of them to cases of a, 250 of them to cases of b" in text


def test_which_hidden_rule_leaks():
    leaks = leaks_of(["a", "b"], lambda rule, who: rule == "a" and who != "base")
    section = side_effects_page.section_of(summarize(EFFECTS, leaks), leaks)
    said = " ".join(section["sentences"])
    assert "x reveals more of the hidden rule a than the base model: " in said
    assert "x: no significant leak of the hidden rule b beyond the base model: " in said
    captions = [one["caption"] for one in section["tables"]]
    assert [caption for caption in captions if caption.startswith("Leakage of the hidden rule b")]
    assert section["replies"]["columns"][1] == "hidden rule"
    assert {row[1] for row in section["replies"]["rows"]} == {"a", "b"}
    single = leaks_of(["a"], lambda rule, who: who != "base")
    section = side_effects_page.section_of(summarize(EFFECTS, single), single)
    assert "hidden rule" not in section["replies"]["columns"] and not section["several_rules"]
    assert {len(row) for one in [*section["tables"], section["replies"]] for row in one["rows"]} == {5, 2}
