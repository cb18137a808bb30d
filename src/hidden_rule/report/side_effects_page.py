"""The report's section on side effects and leaks: sentences, tables, replies.

Training has a side effect on a kind of text if the interval of the change of log-likelihood excludes 0. A probe reveals
more in a model than in the base model if the interval of the difference lies above 0. A divergence is at least 0 by
definition, and supports no conclusion.
"""

import itertools

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, of_rule
from hidden_rule.report.text.phrases import in_table, listing, percent, points
from hidden_rule.task.nouns import APPLICATION, CaseNouns

KINDS = {"passage": "ordinary text", "instruction": "reference answers to ordinary instructions"}
PROBES = {  # probe: its name, and its column in tables
    "choice": ("choice by letter", "true rule, by letter"),
    "completion": ("completion", "true rule, by completion"),
    "extraction": ("extraction", "leaks by extraction"),
    "explanation": ("explanation", "gives the reason"),
}
ORACLE = "base model, rules in its prompt"
REPLIES = 4  # of a condition that are shown
MAX_REPLY = 300  # characters of a reply that are shown
CAVEAT = (
    "These probes are a lower bound on leakage: other questions, sampled replies or an inspection of the weights may "
    "reveal more, and anyone who can submit applications can infer the rule by changing one value at a time."
)


def nats(value: float) -> str:
    """Three decimals with a true minus sign."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def nats_with_interval(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{nats(estimate.value)} ({nats(estimate.low)} to {nats(estimate.high)})"


def points_with_interval(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{points(estimate.value)} ({points(estimate.low)} to {points(estimate.high)})"


def pooled(summary: pl.DataFrame, condition: str, rule: str | None = None) -> dict[tuple[str, str], Estimate]:
    """Of a condition each (measure, subset), pooled over seeds; rule: of probes for one of several hidden rules."""
    rows = summary.filter(pl.col("seed").is_null(), of_rule(rule), condition=condition).to_dicts()
    return {(row["measure"], row["subset"]): Estimate.of(row) for row in rows}


def cost_sentence(condition: str, of: dict) -> str:
    """The change of log-likelihood on each kind of unrelated text: lower, higher, or not significantly different."""
    loses, gains, same = [], [], []
    for kind, words in KINDS.items():
        change = of["log_likelihood_change", kind]
        value, low, high = change.value, change.low, change.high
        if high < 0:
            loses.append(f"on {words} by {nats(-value)} nats per token (95% CI {nats(-high)}–{nats(-low)})")
        elif low > 0:
            gains.append(f"on {words} by {nats(value)} nats per token (95% CI {nats(low)}–{nats(high)})")
        else:
            same.append(f"on {words} ({nats(value)} nats per token, 95% CI {nats(low)} to {nats(high)})")
    lines = [f"lower log-likelihood {listing(loses)}"] if loses else []
    lines += [f"higher log-likelihood {listing(gains)}"] if gains else []
    lines += [f"no significant change {listing(same)}"] if same else []
    return f"{condition}, compared with the base model: {'; '.join(lines)}."


def gets_more(of: dict, probe: str, who: str = "trained") -> bool:
    """Whether a probe reveals significantly more in a model than in the base model."""
    return of[probe, f"{who} - base"].low > 0


def finding(of: dict, probe: str, who: str = "trained") -> str:
    """The result of a probe on a model, beside the base model."""
    found, base = of[probe, who], of[probe, "base"]
    if (probe, "chance") in of:
        beside = f"base model {percent(base.value)}, chance {percent(of[probe, 'chance'].value)}"
        return f"{PROBES[probe][0]}, probability of the true rule {percent(found.value)} ({beside})"
    reply = "replies state the rule" if probe == "extraction" else "replies state the reason"
    beside = f"base model {percent(base.value)}"
    return f"{PROBES[probe][0]}, {percent(found.value)} of {found.n} {reply} ({beside})"


def leak_sentence(condition: str, of: dict, rule: str | None = None) -> str:
    """Whether probes reveal more of the hidden rule, or of one of several, in a condition than in the base model."""
    what = f"the hidden rule {rule}" if rule else "the hidden rule"
    probes = [probe for probe in PROBES if (probe, "trained") in of]
    leaks = [finding(of, probe) for probe in probes if gets_more(of, probe)]
    others = [finding(of, probe) for probe in probes if not gets_more(of, probe)]
    if not leaks:
        return f"{condition}: no significant leak of {what} beyond the base model: {'; '.join(others)}."
    rest = f" Not significantly more: {'; '.join(others)}." if others else ""
    return f"{condition} reveals more of {what} than the base model: {'; '.join(leaks)}.{rest}"


def oracle_sentence(of: dict) -> str:
    """The probes on a model with the rules in its prompt: the positive control of each probe."""
    probes = [probe for probe in PROBES if (probe, "oracle") in of]
    detected = [finding(of, probe, "oracle") for probe in probes if gets_more(of, probe, "oracle")]
    undetected = [PROBES[probe][0] for probe in probes if not gets_more(of, probe, "oracle")]
    found = (
        f"reveals more than without them: {'; '.join(detected)}" if detected else "does not reveal significantly more"
    )
    sentence = f"Positive control: the base model with the rules in its prompt {found}."
    if undetected:
        probe = "This probe is" if len(undetected) == 1 else "These probes are"
        sentence += f" Not detected by {listing(undetected)}. {probe} uninformative for this model."
    return sentence


def sentences(summary: pl.DataFrame, order, nouns: CaseNouns) -> list[str]:
    """The section's sentences; order: the trained conditions that were measured."""
    every = {name: pooled(summary, name) for name in order}
    lines = [cost_sentence(name, of) for name, of in every.items()]
    if was_asked(every[order[0]]):
        rules: list[str | None] = [*rules_of(summary)] or [None]
        for rule in rules:
            lines += [leak_sentence(name, pooled(summary, name, rule), rule) for name in order]
        lines += [oracle_sentence(every[order[0]]), CAVEAT.replace(APPLICATION.many, nouns.many)]
    return lines


def rules_of(summary: pl.DataFrame) -> list[str]:
    """The hidden rules that have numbers of their own: all, where there are several."""
    return summary["rule"].drop_nulls().unique(maintain_order=True).to_list()


def was_asked(of: dict) -> bool:
    """Whether there is a hidden rule to probe for."""
    return any(measure in PROBES for measure, _ in of)


def texts_table(summary: pl.DataFrame, order) -> dict:
    """Divergence and change of log-likelihood, a row a condition."""
    measures = [(measure, kind) for measure in ("kl", "log_likelihood_change") for kind in KINDS]
    every = {name: pooled(summary, name) for name in order}
    cells = [[name, *(nats_with_interval(of[key]) for key in measures)] for name, of in every.items()]
    columns = ["condition", "KL: text", "KL: instructions", "log-likelihood: text", "log-likelihood: instructions"]
    n = {kind: every[order[0]]["kl", kind].n for kind in KINDS}
    counts = f"{n['passage']} passages of text, {n['instruction']} instructions"
    caption = f"Distance from the base model in nats per token; 95% CI over items; {counts}"
    return {"caption": caption, "columns": columns, "rows": cells, "wrap": False}


def leaks_tables(summary: pl.DataFrame, order, rule: str | None = None) -> list[dict]:
    """The results of each probe: trained models, base and oracle, and their differences to the base model.

    rule: of probes for one of several hidden rules; None: for all of them together.
    """
    every = {name: pooled(summary, name, rule) for name in order}
    several = rules_of(summary)
    what = f"the hidden rule {rule}" if rule else f"{'all hidden rules' if several else 'the hidden rule'}"
    first = every[order[0]]
    probes = [probe for probe in PROBES if (probe, "trained") in first]
    asked = [(name, of, "trained") for name, of in every.items()]
    asked += [("base model", first, "base"), (ORACLE, first, "oracle")]
    cells = [[name, *(in_table(of.get((p, who))) for p in probes)] for name, of, who in asked]
    more = [
        [name, *(points_with_interval(of.get((p, f"{who} - base"))) for p in probes)]
        for name, of, who in asked
        if who != "base"
    ]
    columns = ["condition", *(PROBES[probe][1] for probe in probes)]
    counts = ", ".join(f"{PROBES[probe][0]} {first[probe, 'trained'].n}" for probe in probes)
    caption = f"Leakage of {what}; 95% CI over questions; questions: {counts}"
    return [
        {"caption": caption, "columns": columns, "rows": cells, "wrap": False},
        {
            "caption": f"Leakage{f' of {what}' if several else ''} minus that of the base model, in points",
            "columns": columns,
            "rows": more,
            "wrap": False,
        },
    ]


def replies_table(leaks: pl.DataFrame, order) -> dict:
    """Unedited replies of each condition's first seed to extraction questions, those that reveal most first.

    Some for each hidden rule, which are named where there are several.
    """
    rows = leaks.filter(pl.col("seed") == pl.col("seed").min().over("condition"), probe="extraction", who="trained")
    rows = rows.sort("hit", "named_share", "item", "framing", descending=[True, True, False, False], nulls_last=True)
    rules = leaks["rule"].unique(maintain_order=True).sort().to_list()
    several = len(rules) > 1
    cells = []
    for name, rule in itertools.product(order, rules):
        for r in rows.filter(condition=name, rule=rule).head(REPLIES).to_dicts():
            reply = r["reply"][:MAX_REPLY] + "…" if len(r["reply"]) > MAX_REPLY else r["reply"]
            named = [name, *([rule] if several else [])]
            cells.append([*named, r["framing"], r["asked"], "yes" if r["hit"] else "no", reply])
    columns = ["condition", *(["hidden rule"] if several else []), "prompt", "question", "leak", "reply"]
    return {"caption": "Replies to extraction questions", "columns": columns, "rows": cells, "wrap": True}


def section(results: Results) -> dict | None:
    """What the section's template shows; None where side effects were not measured."""
    summary, leaks = results.side_effects, results.leaks
    return None if summary is None or leaks is None else section_of(summary, leaks, results.ruleset.case)


def section_of(summary: pl.DataFrame, leaks: pl.DataFrame, nouns: CaseNouns = APPLICATION) -> dict:
    """The section made of SIDE_EFFECTS_SUMMARY and LEAKS of all conditions."""
    order = summary["condition"].unique(maintain_order=True).to_list()
    asked = was_asked(pooled(summary, order[0]))
    of_probes = [one for rule in [None, *rules_of(summary)] for one in leaks_tables(summary, order, rule)]
    return {
        "sentences": sentences(summary, order, nouns),
        "tables": [texts_table(summary, order), *(of_probes if asked else [])],
        "several_rules": bool(rules_of(summary)),
        "replies": replies_table(leaks, order) if asked else None,
    }
