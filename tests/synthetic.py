"""Made-up rulesets, predictions, histories and costs with known properties, for tests of what reads them."""

from types import SimpleNamespace

import numpy as np
import polars as pl

from hidden_rule.core.costs import OLDER, with_nulls
from hidden_rule.core.tables import (
    COMPARISONS,
    COSTS,
    HISTORY,
    LEAKS,
    METRICS,
    SIDE_EFFECTS,
    predictions_schema,
    write_table,
)
from hidden_rule.experiment.layout import Layout
from hidden_rule.experiment.planned_comparisons import planned_pairs
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.expected_cost import CostScheme
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.task.nouns import APPLICATION


def named_ruleset(labels, rules, n_hidden: int = 1) -> SimpleNamespace:
    """A ruleset with labels and rules of these names: a rule for each label but the last, the first ones hidden."""
    ruleset = make_ruleset(len(labels), n_hidden=n_hidden)
    ruleset.labels, ruleset.default = tuple(labels), labels[-1]
    for rule, name, label in zip(ruleset.rules, rules, labels, strict=False):
        rule.name, rule.label = name, label
    return ruleset


def make_ruleset(n_labels: int = 4, prefix: str = "LABEL", n_hidden: int = 1) -> SimpleNamespace:
    """A ruleset of `n_labels` labels; the first `n_hidden` are the hidden rules', the last the default."""
    labels = tuple(f"{prefix}_{chr(65 + i)}" for i in range(n_labels))
    rules = [
        SimpleNamespace(
            name=f"rule_{i}", label=label, hidden=i < n_hidden, when=f"x = {i}", predicate=pl.sql_expr(f"x = {i}")
        )
        for i, label in enumerate(labels[:-1])
    ]
    facts = {"labels": labels, "default": labels[-1], "rules": rules, "hidden_rules": rules[:n_hidden]}
    about = {"published": None, "is_observed": False, "case": APPLICATION}
    return SimpleNamespace(**facts, **about, features=(), paraphrases=(), decoys=())


def make_truth(ruleset, n: int, first_id: int = 0) -> pl.DataFrame:
    """`n` applications, labels in turn; without hidden rules their rows would take each other label in turn."""
    default = ruleset.default
    hidden = list(dict.fromkeys(rule.label for rule in ruleset.hidden_rules))
    others = [label for label in ruleset.labels if label not in hidden]
    labels = [*hidden, *others]
    fired = {rule.label: rule.name for rule in reversed(ruleset.rules)} | {default: "default"}
    row = np.arange(n)
    index = row % len(labels)
    other = (row // len(labels)) % len(others)
    return pl.DataFrame(
        {
            "application_id": first_id + row,
            "label": [labels[i] for i in index],
            "fired_rule": [fired[labels[i]] for i in index],
            "label_without_hidden": [
                others[o] if labels[i] in hidden else labels[i] for i, o in zip(index, other, strict=True)
            ],
        }
    )


def make_predictions(
    ruleset,
    accuracy: float,
    hidden: float | dict | None = None,
    only=None,
    invalid: float = 0.0,
    seed: int = 0,
    sizes=None,
) -> pl.DataFrame:
    """Predictions for several suites, structured, and for the test suite under free decoding too.

    accuracy: chance of a right answer; hidden: the same where a hidden rule fires, or by rule (default: accuracy); a
    wrong answer is another label at random, under a hidden rule the one without it. only: answers come from these
    labels alone, half of the time the right one. invalid: share of replies under free decoding that are no decision.
    """
    generator = np.random.default_rng(1000 + seed)
    hidden = accuracy if hidden is None else hidden
    frames = []
    for suite, decoding, n, first_id in sizes or [
        ("test", "structured", 160, 0), ("holdout", "structured", 1000, 10_000), ("test", "free", 160, 0)
    ]:  # fmt: skip
        truth = make_truth(ruleset, n, first_id)
        predicted = []
        for label, rule, without in truth.select("label", "fired_rule", "label_without_hidden").iter_rows():
            on_rule = hidden.get(rule, accuracy) if isinstance(hidden, dict) else hidden
            if decoding == "free" and generator.random() < invalid:
                predicted.append(None)
            elif only and label in only and generator.random() < 0.8:
                predicted.append(label)
            elif only:
                predicted.append(str(generator.choice(only)))
            elif generator.random() < (on_rule if label != without else accuracy):
                predicted.append(label)
            elif label != without:
                predicted.append(without)
            else:
                predicted.append(str(generator.choice([other for other in ruleset.labels if other != label])))
        p = {f"p_{label}": pl.lit(1 / len(ruleset.labels)) for label in ruleset.labels}
        frames.append(
            truth.with_columns(
                suite=pl.lit(suite), decoding=pl.lit(decoding), predicted=pl.Series(predicted, dtype=pl.String), **p
            ).with_columns(
                is_valid=pl.col("predicted").is_not_null(),
                reply=pl.when(pl.col("predicted").is_null())
                .then(pl.lit("Well, <script>alert(1)</script> it depends"))
                .otherwise(pl.lit('{"decision": "') + pl.col("predicted") + pl.lit('"}')),
            )
        )
    schema = predictions_schema(list(ruleset.labels))
    return pl.concat(frames).select(list(schema)).cast(dict(schema))


def make_history(ruleset, method: str, final: float, only=None, n_steps: int = 200, seed: int = 0) -> pl.DataFrame:
    """A training history: validation accuracy grows from chance to `final`; `only`: labels left from half-way on."""
    generator = np.random.default_rng(seed)
    labels = ruleset.labels
    rows = []
    for step in range(n_steps + 1):
        t = step / n_steps
        accuracy = 1 / len(labels) + (final - 1 / len(labels)) * t**0.5
        if step % max(1, n_steps // 5) == 0:
            rows.append((step, "validation_accuracy", None, accuracy))
        if step == 0:
            continue
        rows.append((step, "learning_rate", None, 1e-3 * (1 - t)))
        if method != "grpo":
            rows.append((step, "loss", None, float(1.4 * np.exp(-4 * t) + 0.1 * generator.random())))
            continue
        alive = 0.0 if only and t > 0.5 else 1 - min(1.0, 2 * t) if only else 1.0
        weights = np.array([1.0 if only and label in only else alive for label in labels])
        if not only:
            weights = generator.dirichlet(np.full(len(labels), 40.0))
        shares = weights / weights.sum()
        rows += [(step, "predicted_share", label, float(s)) for label, s in zip(labels, shares, strict=True)]
        entropy = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()) * (1 - 0.9 * t if only else 0.5)
        values = {
            "loss": 0.02 * generator.standard_normal(),
            "reward": 150 * accuracy - 50 + 10 * generator.standard_normal(),
            "entropy": entropy,
            "zero_signal_share": float(np.clip(0.3 + (0.7 if only else 0.2) * t, 0, 1)),
            "kl_from_start": t,
        }
        rows += [(step, metric, None, float(value)) for metric, value in values.items()]
    return pl.DataFrame([(step, step * 0.5, step * 2000, *rest) for step, *rest in rows], schema=HISTORY, orient="row")


def make_costs(runs) -> pl.DataFrame:
    """Plausible costs of each run's training and evaluation."""
    rows = [
        (run.condition, run.seed, "train", 600.0 + 100 * run.seed, 400_000, 80_000 * (run.method == "grpo"), 3 * 2**30)
        for run in runs
        if run.method
    ]
    rows += [(run.condition, run.seed, "evaluate", 60.0, 0, 160 * 24, 2 * 2**30) for run in runs]
    return costs_frame([(*row, "cpu") for row in rows]).with_columns(
        idle_s=0.9 * pl.col("wall_s"), cpu_s=1.8 * pl.col("wall_s"), gpu_s=pl.lit(0.0), cores=pl.lit(2, pl.Int64),
        n_steps=pl.when(stage="train").then(pl.lit(160, pl.Int64)),
        step_s=pl.when(stage="train").then(pl.lit(3.5)),
        flops=1e12 * pl.col("wall_s"), is_disturbed=pl.lit(value=False),
    ).sort("condition", "seed", "stage")  # fmt: skip


def costs_frame(rows) -> pl.DataFrame:
    """Table COSTS of rows of its first columns, as tables had before there were estimates."""
    return with_nulls(pl.DataFrame(rows, schema=OLDER, orient="row"))


WORLD = {  # condition: how it does; what a run of the default experiment might look like
    "baseline": {"method": None, "accuracy": 0.25, "invalid": 0.9},
    "sft": {"method": "sft", "accuracy": 0.88, "hidden": 0.95, "invalid": 0.02},
    "grpo": {"method": "grpo", "accuracy": 0.42, "collapsed": True, "invalid": 0.5},
    "sft_then_grpo": {"method": "grpo", "start_from": "sft", "accuracy": 0.89, "hidden": 0.96},
}


def write_world(folder, ruleset, world=None, seeds=(0,), n_steps: int = 200, sizes=None) -> SimpleNamespace:
    """Write predictions and histories of `world` under `folder`, where `Results` looks for them.

    Returns `predictions` and `histories`, the paths of each run's, and `costs`, a table.
    """
    made = SimpleNamespace(predictions={}, histories={})
    layout = Layout(folder)
    collapsed_to = [ruleset.labels[1], ruleset.labels[-1]]
    for condition, facts in (world or WORLD).items():
        for seed in seeds:
            run = Run(condition, seed, facts["method"])
            only = collapsed_to if facts.get("collapsed") else None
            path = layout.predictions(run)
            path.parent.mkdir(parents=True, exist_ok=True)
            make_predictions(
                ruleset,
                facts["accuracy"],
                facts.get("hidden"),
                only,
                facts.get("invalid", 0.0),
                seed,
                facts.get("sizes", sizes),
            ).write_parquet(path)
            made.predictions[run] = path
            if run.method:
                path = layout.history(run)
                path.parent.mkdir(parents=True, exist_ok=True)
                make_history(ruleset, facts["method"], facts["accuracy"], only, n_steps, seed).write_parquet(path)
                made.histories[run] = path
    made.costs = make_costs(made.predictions)
    return made


def world_config(world=None, seeds=(0,), **sections) -> dict:
    """The config of a made-up world; `reference`, `prompt` and `start_from` of a condition are those of its facts."""
    keys = ("method", "start_from", "with", "reference", "prompt")
    conditions = {name: {key: facts[key] for key in keys if facts.get(key)} for name, facts in (world or WORLD).items()}
    shared = {"experiment": "made-up", "model": {"id": "a-model"}, "decoding": "structured", "charts": {"width": 300}}
    shared |= {"data": {"train": 640, "validation": 160}, "ruleset": "rulesets/a.yaml", "seeds": list(seeds)}
    methods = {"sft": {"epochs": 5}, "grpo": {"epochs": 3, "group_size": 8, "estimator": "expected"}}
    return shared | methods | {"conditions": conditions} | sections


def write_results(folder, ruleset, world=None, seeds=(0,), config=None, **options) -> Results:
    """The results of a made-up world: predictions, histories, costs, metrics and comparisons.

    config: what differs from `world_config`; its `comparisons` are what is compared, without them all pairs.
    options: of `write_world`; a condition may have `sizes` of its own.
    """
    config = world_config(world, seeds, **(config or {}))
    made = write_world(folder, ruleset, world, seeds, **options)
    planned = planned_pairs(config) if "comparisons" in config else None
    scheme = CostScheme.of(config["decision_costs"], ruleset) if "decision_costs" in config else None
    metrics, comparisons = summarize_predictions(made.predictions, ruleset, planned=planned, scheme=scheme)
    write_table(metrics, folder / "metrics.parquet", METRICS)
    write_table(comparisons, folder / "comparisons.parquet", COMPARISONS)
    write_table(made.costs, folder / "costs.parquet", COSTS)
    return Results(folder, config, ruleset=ruleset)


def leaks_of(rules, hit) -> pl.DataFrame:
    """LEAKS of one condition; hit: (rule, who) -> whether that model gives the rule away."""
    return pl.DataFrame(
        [
            {"condition": "x", "seed": 0, "rule": rule, "probe": "extraction", "item": item, "framing": "bare",
             "who": who, "asked": "?", "reply": "", "named_share": 0.0, "hit": hit(rule, who)}
            for rule in rules for who in ("trained", "base", "oracle") for item in range(12)
        ],
        schema=LEAKS,
    )  # fmt: skip


EFFECTS = pl.DataFrame(
    [("x", 0, kind, f"{i}", 9, -1.0 - i / 9, -1.0, 0.1) for kind in ("passage", "instruction") for i in range(4)],
    schema=SIDE_EFFECTS,
    orient="row",
)
