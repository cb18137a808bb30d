"""The report: one HTML page that needs no network, made from tables, charts and provenance.

The page runs no script: its content security policy forbids all of them, and every text is escaped by the template.
Charts stand in it as images (data URIs), so that nothing inside one can reach the page.
"""

import json
from pathlib import Path

import jinja2

from hidden_rule.core.files import write_text
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report import rules_page, side_effects_page
from hidden_rule.report.cost_table import cost_notes, cost_table
from hidden_rule.report.embedding import embed_chart
from hidden_rule.report.examples import examples
from hidden_rule.report.model_section import model_section
from hidden_rule.report.tables import (
    as_text,
    collapse_table,
    comparison_table,
    feasibility_table,
    hidden_rules_table,
    label_table,
    order_of,
    policy_table,
    seed_table,
    settings_table,
    suites_table,
    summary_table,
    supervision_table,
    table,
)
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.baselines import describe_references, hidden_rule_note
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.phrases import percent

NOT_LISTED = ("packages", "config", "timings")  # of the provenance: shown elsewhere, or in its JSON only
SHARED = ("model", "decoding", "data", "lora", "seeds", "evaluation")  # sections of the config
CHARTS = {
    "accuracy": "Accuracy by condition with 95% CI, for each suite and decoding.",
    "forest": "Differences in accuracy of the planned comparisons with 95% CI; filled where significant.",
    "expected_cost": "Expected cost of mistakes per 1,000 cases by condition with 95% CI; lower is better.",
    "hidden_rule": "Recall and precision on each hidden rule by condition with 95% CI.",
    "suites": "Generalization suites by condition with 95% CI; darker is better.",
    "cost": "Accuracy against training time with 95% CI, and the Pareto front.",
    "confusion": "Confusion matrix of each condition: predicted by true decision.",
    "calibration": "Calibration: accuracy by predicted probability with 95% CI, a panel per condition.",
    "learning": "Learning curves: validation accuracy over optimizer steps and over training time.",
    "training": "Training curves: validation accuracy, reward and loss over optimizer steps.",
    "collapse": "Share of each decision among sampled answers over steps, with entropy and groups of equal rewards.",
    "labels": "Accuracy and recall on each hidden rule against labels, seconds, tokens, bits and label noise.",
}


def build_report(results: Results, output, svgs=()) -> dict:
    """Everything that the template shows, conditions by their display names.

    output: path of the page; svgs: paths of charts to show in it.
    """
    results = displayed(results)
    return {
        "experiment": results.config["experiment"],
        "badges": badges(results),
        "answer": conclude(results),
        "setting": results.main.words,
        "nouns": results.ruleset.case,
        "several": several_seeds(results),
        "charts": [embed_chart(path, output, alternative(results, Path(path).stem)) for path in svgs],
        "side_effects": side_effects_page.section(results),
        "rules": rules_page.section(results),
        **tables_of(results),
        **sources_of(results),
    }


def tables_of(results: Results) -> dict:
    """The tables and examples that the template shows, by their names there."""
    main, others, free = results.main, results.evaluated[1:], results.free or results.main
    more = [summary_table(results, setting) for setting in others]
    more.append(label_table(results, main))
    if several_seeds(results):
        more.append(seed_table(results, main))
    more += [comparison_table(results, setting) for setting in others]
    references = describe_references(results.config)
    return {
        "summary": summary_table(results, main),
        "hidden_rules": hidden_rules_table(results, main),
        "comparison": comparison_table(results, main),
        "suites": suites_table(results),
        "collapse": collapse_table(results),
        "supervision": supervision_table(results),
        "more": [*more, feasibility] if (feasibility := feasibility_table(results)) else more,
        "examples": examples(results, free),
        "examples_setting": free.words,
        "policy": policy_table(results.ruleset),
        "settings": settings_table(results),
        "references": table("Reference conditions", ["condition", "description"], references.items(), wrap=True),
        "costs": cost_table(results),
        "cost_notes": cost_notes(results),
    }


def sources_of(results: Results) -> dict:
    """Settings that all conditions share, and provenance."""
    config, provenance = results.config, results.provenance or {}
    known = {key: value for key, value in provenance.items() if value and key not in NOT_LISTED}
    return {
        "shared": [(key, as_text(config[key])) for key in SHARED if key in config],
        "hidden_note": hidden_rule_note(config, len(results.ruleset.hidden_rules)),
        "provenance": [(key, listed(value)) for key, value in known.items()],
        "base_model": model_section(provenance),
        "packages": provenance.get("packages", {}),
        "provenance_json": json.dumps(provenance, indent=2, ensure_ascii=False),
    }


def listed(value) -> str | dict[str, str]:
    """A piece of provenance as the template shows it: a dictionary as a list of its own."""
    if not isinstance(value, dict):
        return as_text(value)
    return {name: as_text(item) for name, item in value.items() if name != "inspection"}  # `model_section` shows it


def several_seeds(results: Results) -> bool:
    return results.metrics["seed"].drop_nulls().n_unique() > 1


def alternative(results: Results, chart: str) -> str:
    """A chart's text alternative."""
    text = CHARTS.get(chart, "")
    if chart != "accuracy":
        return text
    found = {name: results.estimate(name, results.main, "accuracy") for name in order_of(results)}
    values = (f"{name} {percent(accuracy.value)}" for name, accuracy in found.items() if accuracy)
    return f"{text} {results.main.words}: {', '.join(values)}."


def render_report(context: dict, template_path) -> str:
    """Fill the template; every value is escaped, and a name that is missing is an error."""
    path = Path(template_path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(path.name).render(context)


def write_report(results: Results, output, svgs, template) -> None:
    """Write the page to `output`; svgs: paths of the charts to show; template: path of the Jinja template."""
    write_text(render_report(build_report(results, output, svgs), template), output)
