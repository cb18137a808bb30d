"""What the template of the page shows, and the page itself.

The content security policy of the page allows the two scripts that it holds by their hashes, and no other; every text
is escaped by the template. The page asks for nothing from anywhere, and links to no file beside it.
"""

import base64
import hashlib
import json
from pathlib import Path

import jinja2
from markupsafe import Markup

from hidden_rule.core.files import write_text
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report import rules_page, side_effects_page
from hidden_rule.report.charts.files import library
from hidden_rule.report.cost_table import cost_notes, cost_table
from hidden_rule.report.examples import examples
from hidden_rule.report.model_section import model_section
from hidden_rule.report.page.figures import as_data, figures_of
from hidden_rule.report.page.first_screen import first_screen
from hidden_rule.report.page.glossary import explained, glossary_of
from hidden_rule.report.page.many import by_value, fits_page, narrower
from hidden_rule.report.page.scorecard import scorecard
from hidden_rule.report.page.sections import sections
from hidden_rule.report.tables import (
    as_text,
    collapse_table,
    comparison_table,
    feasibility_table,
    hidden_rules_table,
    label_table,
    policy_table,
    seed_table,
    settings_table,
    suites_table,
    summary_table,
    supervision_table,
    table,
)
from hidden_rule.report.text.baselines import describe_references, hidden_rule_note
from hidden_rule.report.text.evidence import Evidence, gather
from hidden_rule.report.text.findings import conclude, rules_learned

NOT_LISTED = ("packages", "config", "timings")  # of the provenance: shown elsewhere, or in its JSON only
SHARED = ("model", "decoding", "data", "lora", "seeds", "evaluation")  # sections of the config
STYLE, SCRIPT = "report.css", "report.js"  # beside the template


def build_report(results: Results, charts=()) -> dict:
    """Everything that the template shows, conditions by their display names; charts: names of those to show."""
    results = displayed(results)
    figures = figures_of(results, charts)
    answer, found = conclude(results), gather(results)
    context = {
        "experiment": results.config["experiment"],
        "first": first_screen(results),
        "scorecard": scorecard(results, found),
        "answer": answer,
        "on_rules": on_rules(found),
        "setting": results.main.words,
        "nouns": results.ruleset.case,
        "several": several_seeds(results),
        "side_effects": side_effects_page.section(results),
        "rules": rules_page.section(results),
        "glossary": glossary_of(has_hidden=bool(results.rules_apart)),
        "explained": explained,
        "fits_page": fits_page,
        "figures": figures,
        **tables_of(results),
        **sources_of(results),
    }
    return context | {"sections": sections(results, context, figures)}


def on_rules(found: Evidence) -> str:
    """Who learned which hidden rule, in a sentence; empty without hidden rules that fire."""
    tested = {of.rule: of.verdicts for of in found.hidden if not of.untested}
    if not tested:
        return ""
    none = f"No condition demonstrably learned {'the' if len(found.hidden) == 1 else 'a'} hidden rule."
    return rules_learned(found.contenders, found.best, tested) or none


def tables_of(results: Results) -> dict:
    """The tables and examples that the template shows, by their names there."""
    main, others, free = results.main, results.evaluated[1:], results.free or results.main
    more = [summary_table(results, setting) for setting in others]
    if several_seeds(results):
        more.append(seed_table(results, main))
    more += [one for setting in others if (one := comparison_table(results, setting))["rows"]]
    references = describe_references(results.config)
    return {
        "summary": summary_table(results, main),
        "hidden_rules": hidden_rules_table(results, main),
        "comparison": comparison_table(results, main),
        "suites": narrower(suites_table(results)),
        "collapse": collapse_table(results),
        "supervision": supervision_table(results),
        "feasibility": feasibility_table(results),
        "by_label": label_table(results, main),
        "more": more,
        "examples": examples(results, free),
        "examples_setting": free.words,
        "policy": policy_table(results.ruleset),
        "settings": by_value(settings_table(results)),
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


def hash_of(script: str) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def assets_of(folder: Path, has_charts: bool) -> dict:
    """Our own style and scripts, which the page holds as they are, and the policy that allows these scripts alone."""
    own = (folder / SCRIPT).read_text(encoding="utf-8")
    scripts = [*([library()] if has_charts else []), own]
    return {
        "style": Markup((folder / STYLE).read_text(encoding="utf-8")),  # ours
        "scripts": [Markup(script) for script in scripts],  # ours, and the library's
        "script_policy": " ".join(map(hash_of, scripts)),
    }


def render_report(context: dict, template_path) -> str:
    """Fill the template; every value is escaped, and a name that is missing is an error."""
    path = Path(template_path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    figures = context.get("figures", [])
    held = assets_of(path.parent, bool(figures)) | {"chart_data": as_data(figures)}
    return environment.get_template(path.name).render(context | held)


def write_report(results: Results, output, charts, template) -> None:
    """Write the page to `output`; charts: names of those to show; template: path of the Jinja template."""
    write_text(render_report(build_report(results, charts), template), output)
