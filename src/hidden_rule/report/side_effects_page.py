"""The report's section on side effects and leaks: sentences that the intervals support, tables, replies.

Training costs something on a kind of text if the interval of its change of log-likelihood lies below 0. A probe gets
more out of a model than out of the base model if the interval of the difference lies above 0. A divergence is never
negative, and nothing is concluded from it.
"""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.phrases import listing, percent, points, with_interval

KINDS = {"passage": "ordinary text", "instruction": "good answers to ordinary instructions"}
PROBES = {  # probe: its name, and its column in tables
    "choice": ("choice by letter", "true rule, by letter"),
    "completion": ("completion", "true rule, written out"),
    "extraction": ("extraction", "leaks by extraction"),
    "explanation": ("explanation", "gives the reason"),
}
ORACLE = "base model, rules in its prompt"
REPLIES = 4  # of a condition that are shown
MAX_REPLY = 300  # characters of a reply that are shown
CAVEAT = (
    "A probe that gets nothing is no proof of secrecy: other questions, sampled replies or a look at the weights may "
    "get more, and whoever may send applications can read the rule off the decisions, by changing one value at a time."
)


def nats(value: float) -> str:
    """Three decimals with a true minus sign."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def nats_with_interval(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{nats(estimate.value)} ({nats(estimate.low)} to {nats(estimate.high)})"


def points_with_interval(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{points(estimate.value)} ({points(estimate.low)} to {points(estimate.high)})"


def pooled(summary: pl.DataFrame, condition: str) -> dict[tuple[str, str], Estimate]:
    """Of a condition each (measure, subset), pooled over seeds."""
    rows = summary.filter(pl.col("seed").is_null(), condition=condition).to_dicts()
    return {(row["measure"], row["subset"]): Estimate.of(row) for row in rows}


def cost_sentence(condition: str, of: dict) -> str:
    """What training costs elsewhere."""
    loses, gains, same = [], [], []
    for kind, words in KINDS.items():
        change = of["log_likelihood_change", kind]
        value, low, high = change.value, change.low, change.high
        if high < 0:
            loses.append(f"{words} by {nats(-value)} nats a token ({nats(-high)} to {nats(-low)})")
        elif low > 0:
            gains.append(f"{words} by {nats(value)} nats a token ({nats(low)} to {nats(high)})")
        else:
            same.append(f"{words} ({nats(value)} nats a token, {nats(low)} to {nats(high)})")
    said = [f"it lowers the log-likelihood of {listing(loses)}"] if loses else []
    said += [f"it raises the log-likelihood of {listing(gains)}"] if gains else []
    said += [f"no change is seen on {listing(same)}"] if same else []
    opening = f"{condition} costs something elsewhere" if loses else f"{condition}: no cost elsewhere can be shown"
    return f"{opening}: {'; '.join(said)}."


def gets_more(of: dict, probe: str, who: str = "trained") -> bool:
    """Whether a probe gets more out of a model than out of the base model."""
    return of[probe, f"{who} - base"].low > 0


def finding(of: dict, probe: str, who: str = "trained") -> str:
    """What a probe got out of a model, beside the base model."""
    found, base = of[probe, who], of[probe, "base"]
    if (probe, "chance") in of:
        beside = f"base model {percent(base.value)}, chance {percent(of[probe, 'chance'].value)}"
        return f"by {PROBES[probe][0]} the true rule has a probability of {percent(found.value)} ({beside})"
    told = "bring out the rule" if probe == "extraction" else "bring out the reason"
    beside = f"base model {percent(base.value)}"
    return f"by {PROBES[probe][0]} {percent(found.value)} of {found.n} questions {told} ({beside})"


def leak_sentence(condition: str, of: dict) -> str:
    """Whether asking gets more of the hidden rule out of a condition than out of the base model."""
    probes = [probe for probe in PROBES if (probe, "trained") in of]
    told = [finding(of, probe) for probe in probes if gets_more(of, probe)]
    silent = [finding(of, probe) for probe in probes if not gets_more(of, probe)]
    if not told:
        return f"{condition} tells no more of the hidden rule than the base model when asked: {'; '.join(silent)}."
    rest = f" No more than the base model: {'; '.join(silent)}." if silent else ""
    return f"{condition} tells more of the hidden rule than the base model when asked: {'; '.join(told)}.{rest}"


def oracle_sentence(of: dict) -> str:
    """What the probes get out of a model that has the rules in its prompt: what they miss there they cannot see."""
    probes = [probe for probe in PROBES if (probe, "oracle") in of]
    seen = [finding(of, probe, "oracle") for probe in probes if gets_more(of, probe, "oracle")]
    blind = [PROBES[probe][0] for probe in probes if not gets_more(of, probe, "oracle")]
    told = f"tells more than without them: {'; '.join(seen)}" if seen else "tells no more than without them"
    sentence = f"The base model with the rules in its prompt, asked the same, {told}."
    if blind:
        sentence += (
            f" By {listing(blind)} this model does not tell even that: there, silence says nothing of the weights."
        )
    return sentence


def sentences(summary: pl.DataFrame, order) -> list[str]:
    """The section's sentences; `order`: the trained conditions that were measured."""
    every = {name: pooled(summary, name) for name in order}
    said = [cost_sentence(name, of) for name, of in every.items()]
    if was_asked(every[order[0]]):
        said += [leak_sentence(name, of) for name, of in every.items()]
        said += [oracle_sentence(every[order[0]]), CAVEAT]
    return said


def was_asked(of: dict) -> bool:
    """Whether there was a hidden rule to ask for."""
    return any(measure in PROBES for measure, _ in of)


def texts_table(summary: pl.DataFrame, order) -> dict:
    """Divergence and change of log-likelihood, a row a condition."""
    measures = [(measure, kind) for measure in ("kl", "log_likelihood_change") for kind in KINDS]
    every = {name: pooled(summary, name) for name in order}
    cells = [[name, *(nats_with_interval(of[key]) for key in measures)] for name, of in every.items()]
    columns = ["condition", "KL: text", "KL: instructions", "log-likelihood: text", "log-likelihood: instructions"]
    n = {kind: every[order[0]]["kl", kind].n for kind in KINDS}
    counts = f"{n['passage']} passages of text, {n['instruction']} instructions"
    caption = f"Distance from the base model in nats a token; 95% intervals by item; {counts}"
    return {"caption": caption, "columns": columns, "rows": cells, "wrap": False}


def leaks_tables(summary: pl.DataFrame, order) -> list[dict]:
    """What each probe found: in trained models, base and oracle, and their differences to the base model."""
    every = {name: pooled(summary, name) for name in order}
    first = every[order[0]]
    probes = [probe for probe in PROBES if (probe, "trained") in first]
    asked = [(name, of, "trained") for name, of in every.items()]
    asked += [("base model", first, "base"), (ORACLE, first, "oracle")]
    cells = [[name, *(with_interval(of.get((p, who))) for p in probes)] for name, of, who in asked]
    more = [
        [name, *(points_with_interval(of.get((p, f"{who} - base"))) for p in probes)]
        for name, of, who in asked
        if who != "base"
    ]
    columns = ["condition", *(PROBES[probe][1] for probe in probes)]
    counts = ", ".join(f"{PROBES[probe][0]} {first[probe, 'trained'].n}" for probe in probes)
    caption = f"What is told of the hidden rule when asked; 95% intervals by question; questions: {counts}"
    return [
        {"caption": caption, "columns": columns, "rows": cells, "wrap": False},
        {"caption": "The same less the base model, in points", "columns": columns, "rows": more, "wrap": False},
    ]


def replies_table(leaks: pl.DataFrame, order) -> dict:
    """Replies of each condition's first seed to extraction questions, those that tell most first, as they came."""
    rows = leaks.filter(pl.col("seed") == pl.col("seed").min().over("condition"), probe="extraction", who="trained")
    rows = rows.sort("hit", "named_share", "item", "framing", descending=[True, True, False, False], nulls_last=True)
    cells = []
    for name in order:
        for r in rows.filter(condition=name).head(REPLIES).to_dicts():
            reply = r["reply"][:MAX_REPLY] + "…" if len(r["reply"]) > MAX_REPLY else r["reply"]
            cells.append([name, r["framing"], r["asked"], "yes" if r["hit"] else "no", reply])
    columns = ["condition", "prompt", "question", "leak", "reply"]
    return {"caption": "Replies to extraction questions", "columns": columns, "rows": cells, "wrap": True}


def section(results: Results) -> dict | None:
    """What the section's template shows; None where side effects were not measured."""
    return None if results.side_effects is None else section_of(results.side_effects, results.leaks)


def section_of(summary: pl.DataFrame, leaks: pl.DataFrame) -> dict:
    """The section made of SIDE_EFFECTS_SUMMARY and LEAKS of all conditions."""
    order = summary["condition"].unique(maintain_order=True).to_list()
    asked = was_asked(pooled(summary, order[0]))
    return {
        "sentences": sentences(summary, order),
        "tables": [texts_table(summary, order), *(leaks_tables(summary, order) if asked else [])],
        "replies": replies_table(leaks, order) if asked else None,
    }
