"""The schema of every parquet table, declared once and checked whenever a table is written or read.

No column of numbers holds one that is not finite: what is undefined is null, and a NaN or an infinity is a mistake that
stops with the file, the column and the row.
"""

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import whole
from hidden_rule.core.seals import UNSEALED, seal, seal_holds

REBUILD = "delete it and run again to rebuild it"
NOT_WRITTEN = "the table was not written; the job's log says what came before"

HISTORY = pl.Schema(
    {
        "step": pl.Int64,  # optimizer steps done; 0 is before training
        "wall_s": pl.Float64,  # seconds since training began
        "n_tokens": pl.Int64,  # tokens trained on so far, padding excluded
        "metric": pl.String,
        "label": pl.String,  # null unless the metric is one of a label
        "value": pl.Float64,
    }
)

METRICS = pl.Schema(
    {
        "condition": pl.String,
        "seed": pl.Int64,  # null: pooled over seeds
        "suite": pl.String,
        "decoding": pl.String,
        "metric": pl.String,
        "label": pl.String,  # null unless the metric is one of a label
        "rule": pl.String,  # null unless it is one of a hidden rule, of several; null: of all of them together
        "value": pl.Float64,  # null where the metric is undefined (a precision without predictions)
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "n": pl.Int64,  # rows in the denominator
    }
)

COMPARISONS = pl.Schema(
    {
        "condition_a": pl.String,
        "condition_b": pl.String,
        "seed": pl.Int64,
        "suite": pl.String,
        "decoding": pl.String,
        "metric": pl.String,
        "rule": pl.String,  # as in METRICS
        "difference": pl.Float64,  # a minus b
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "p_value": pl.Float64,
        "test": pl.String,
        "n": pl.Int64,
        "p_adjusted": pl.Float64,  # for the planned pairs of the same suite, decoding, metric, rule and seed (Holm)
        "mde": pl.Float64,  # minimal detectable effect at 80% power; above 1: no difference could be detected
    }
)

SAMPLES = pl.Schema(  # replies that the start of a training draws freely
    {
        "application_id": pl.Int64,
        "label": pl.String,
        "fired_rule": pl.String,
        "reply": pl.String,
        "predicted": pl.String,  # null: not a valid reply
    }
)

FEASIBILITY = pl.Schema(
    {
        "condition": pl.String,  # one that GRPO, RLOO or RFT trains
        "start": pl.String,  # the condition whose policy it starts with, or the base model
        "seed": pl.Int64,
        "group_size": pl.Int64,
        "kind": pl.String,  # of the applications: overall | hidden (any hidden rule fires) | rule (one does) | label
        "name": pl.String,  # the hidden rule's, of several, or the label; null where the kind says it all
        "p_right": pl.Float64,  # chance of a right reply
        "p_invalid": pl.Float64,  # chance of no valid reply; 0 under structured decoding
        "signal_share": pl.Float64,  # of groups whose replies do not all earn the same
        "right_share": pl.Float64,  # of groups with a right reply
        "reward": pl.Float64,  # expected points a reply
        "n": pl.Int64,  # applications
    }
)

COLLAPSE = pl.Schema(  # one row for each RL training and label; `collapse.judge` says how each is judged
    {  # type: ignore[arg-type] # types, and a list of one
        "condition": pl.String,
        "seed": pl.Int64,
        "verdict": pl.String,  # pass | warn | collapsed; of the training, as all columns up to n_steps
        "reasons": pl.List(pl.String),  # keys of collapse.REASONS
        "collapsed_since": pl.Int64,  # step; null unless it collapsed
        "entropy": pl.Float64,  # nats, mean over the last recorded steps
        "zero_signal_share": pl.Float64,  # of groups, mean over the last recorded steps
        "n_steps": pl.Int64,  # recorded
        "label": pl.String,
        "true_share": pl.Float64,  # of the training split
        "share": pl.Float64,  # of the valid answers of the last window; null if there were none
        "low": pl.Float64,  # one-sided bounds of it
        "high": pl.Float64,
        "n": pl.Float64,  # prompts with valid answers in that window
        "fate": pl.String,  # kept | rare | unsure | lost | absent | unneeded
        "since": pl.Int64,  # step from which on a lost or absent decision is hardly sampled
        "gap_from": pl.Int64,  # steps between which a decision that came back was hardly sampled
        "gap_to": pl.Int64,
    }
)

COSTS = pl.Schema(  # a row a training or evaluation, measured as `core.costs` says
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "stage": pl.String,  # train | evaluate
        "wall_s": pl.Float64,  # as they were
        "n_tokens_trained": pl.Int64,
        "n_tokens_generated": pl.Int64,
        "peak_bytes": pl.Int64,
        "device": pl.String,
        "idle_s": pl.Float64,  # on an idle machine, an estimate; it and what follows are null in older tables
        "n_steps": pl.Int64,  # optimizer steps; null without any
        "step_s": pl.Float64,  # their median, without waiting for a core; null without any
        "cpu_s": pl.Float64,  # user and system, of all its processes and their children
        "gpu_s": pl.Float64,  # wall seconds times GPUs that it held
        "n_positions": pl.Int64,  # that the model computed; null without a model
        "flops": pl.Float64,  # an estimate; null without a model
        "load_start": pl.Float64,  # the machine's load average, of a minute; null where there is none
        "load_end": pl.Float64,
        "cores": pl.Int64,  # that it could use
        "waited_share": pl.Float64,  # of the time in which its threads had work, without a core; null where not known
        "is_disturbed": pl.Boolean,  # the machine was busy with other work: `wall_s` is not comparable
    }
)

SUPERVISION = pl.Schema(  # a row a training; docs/label-curves.md has the formulas
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "method": pl.String,  # sft | grpo | …
        "curve": pl.String,  # what conditions have in common that differ in rows, noise and passes alone
        "train_rows": pl.Int64,  # of its training data
        "label_noise": pl.Float64,  # the share of wrong labels that was asked for
        "wrong_share": pl.Float64,  # the share of its rows whose label is wrong
        "n_steps": pl.Int64,  # optimizer steps done
        "n_labels": pl.Int64,  # distinct labelled rows that it can have met
        "n_replies": pl.Int64,  # sampled, repeats included; 0 for SFT
        "wall_s": pl.Float64,  # of the training, loading included
        "n_tokens": pl.Int64,  # trained on
        "bits_labels": pl.Float64,  # that its labels can hold
        "bits_rewards": pl.Float64,  # that its rewards can hold, reply by reply; null for SFT
        "bits": pl.Float64,  # of supervision at most: the smaller of the two
    }
)

RULES = pl.Schema(  # rules found in decisions that the stated rules do not explain; statistics/rule_search.py
    {  # type: ignore[arg-type] # types, and a list of one
        "kind": pl.String,  # rule: a candidate | all: every case | rest: those that no proposed rule covers
        "name": pl.String,  # of a proposed rule for a single label, as in a ruleset
        "verdict": pl.String,  # proposed | unsupported
        "when": pl.String,  # SQL predicate
        "label": pl.String,  # the decision; where there are several, the most frequent
        "single_label": pl.Boolean,  # decisions depart to this label; otherwise to several
        "says": pl.String,  # the predicate in plain words
        "n_found_on": pl.Int64,  # cases covered, of those that were searched; the columns below are of the others
        "n": pl.Int64,  # cases covered, and by no candidate before
        "n_label": pl.Int64,  # of them, with this label
        "n_departures": pl.Int64,  # of them, decided otherwise than stated
        "departures_to": pl.List(pl.String),  # `LABEL count` of these decisions, the most frequent first
        "precision": pl.Float64,  # n_label / n
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "lift": pl.Float64,  # how many times as frequent the label is as among all cases
        "lift_low": pl.Float64,
        "lift_high": pl.Float64,
        "p_value": pl.Float64,  # on cases that it was not found on, adjusted for all candidates (Holm)
        "n_tried": pl.Int64,  # predicates that were compared before it was chosen
        "n_shuffles": pl.Int64,  # searches with shuffled labels
        "n_as_good": pl.Int64,  # of them, with a rule as good as this one
        "hidden_rule": pl.String,  # of the ruleset, with the same label, that holds for most of the same cases
        "overlap": pl.Float64,  # of the cases for which either holds, the share for which both do
    }
)

LEARNT_RULES = pl.Schema(  # what each run decides by; a row for each selector of each rule; statistics/learnt_rules.py
    {  # type: ignore[arg-type] # types, and a list of one
        "condition": pl.String,
        "seed": pl.Int64,
        "suite": pl.String,
        "decoding": pl.String,
        "place": pl.Int64,  # of the rule; the first that holds decides
        "when": pl.String,  # SQL predicate; null: in all other cases
        "label": pl.String,  # the answer; null: an invalid reply
        "n": pl.Int64,  # answers that it decides
        "precision": pl.Float64,  # the share of them that are this answer
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "true_rule": pl.String,  # of the policy, with the same decision and most of the same cases
        "overlap": pl.Float64,  # of the cases that either decides, the share that both do
        "feature": pl.String,  # of the selector; null where the rule has none
        "comparison": pl.String,  # > | >= | < | <= | IN | NOT IN | LIKE | IS NULL | IS NOT NULL
        "threshold": pl.Float64,
        "threshold_low": pl.Float64,  # 95% confidence interval
        "threshold_high": pl.Float64,
        "true_threshold": pl.Float64,  # the nearest that the policy's rule compares this feature with
        "values": pl.List(pl.String),  # of IN and NOT IN
        "mentioned": pl.Boolean,  # whether a rule of the policy mentions this feature
        "fidelity": pl.Float64,  # share of the run's answers that its rules predict, cross-validated
        "fidelity_low": pl.Float64,
        "fidelity_high": pl.Float64,
        "most_frequent": pl.Float64,  # share of its most frequent answer: the fidelity of no rules
        "n_answers": pl.Int64,
    }
)

SIDE_EFFECTS = pl.Schema(
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "kind": pl.String,  # passage | instruction
        "item": pl.String,  # its name in the file of texts
        "n_tokens": pl.Int64,  # scored
        "log_likelihood_base": pl.Float64,  # nats a token, mean over the item, without the adapter
        "log_likelihood": pl.Float64,  # the same with it
        "kl": pl.Float64,  # KL(base || trained), nats a token, mean over the item
    }
)

LEAKS = pl.Schema(
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "rule": pl.String,  # the hidden rule that is asked for
        "probe": pl.String,  # choice | completion | extraction | explanation
        "item": pl.Int64,
        "framing": pl.String,  # deployed: after the prompt of the policy; bare: without it
        "who": pl.String,  # trained | base | oracle (the base model with all rules in its prompt)
        "asked": pl.String,  # what the user says last; of a choice with the first order of its options
        "reply": pl.String,  # verbatim; null where options were scored
        "p_true": pl.Float64,  # of the true rule among the options; of a choice the mean over their orders
        "n_options": pl.Int64,  # null where there were none
        "named_share": pl.Float64,  # of an extraction: share of the values in the rule that the reply names
        "hit": pl.Boolean,  # the true rule is the most probable; the reply is a leak; it names the reason alone
    }
)

SIDE_EFFECTS_SUMMARY = pl.Schema(
    {
        "condition": pl.String,
        "seed": pl.Int64,  # null: pooled over seeds
        "measure": pl.String,  # kl | log_likelihood_change | a probe of LEAKS
        "subset": pl.String,  # passage | instruction; trained | base | oracle | chance | trained - base | oracle - base
        "rule": pl.String,  # the hidden rule that a probe asks for, of several; null: all of them, or none
        "value": pl.Float64,
        "ci_low": pl.Float64,  # null for chance
        "ci_high": pl.Float64,
        "n": pl.Int64,  # items: texts, or questions
    }
)


def predictions_schema(labels: list[str]) -> pl.Schema:
    """Schema of a predictions table: a row an application, suite and decoding."""
    return pl.Schema(
        {
            "application_id": pl.Int64,
            "suite": pl.String,
            "decoding": pl.String,  # structured | free
            "label": pl.String,
            "fired_rule": pl.String,
            "label_without_hidden": pl.String,
            "reply": pl.String,
            "predicted": pl.String,  # null if the reply is invalid
            "is_valid": pl.Boolean,
            **{f"p_{label}": pl.Float64 for label in labels},  # of each allowed reply; they sum to 1
        }
    )


def check_finite(frame: pl.LazyFrame, path, remedy: str) -> None:
    """Raise UserError if a number of a table is not finite; it names file, column and row, counted from 1."""
    numbers = [name for name, dtype in frame.collect_schema().items() if dtype.is_float()]
    if not numbers:
        return
    finite = frame.select(pl.col(numbers).is_finite().fill_null(True))
    for name, all_finite in finite.select(pl.all().all()).collect().row(0, named=True).items():
        if not all_finite:
            row = finite.select(pl.col(name).arg_min()).collect().item()
            value = frame.select(pl.col(name).get(row)).collect().item()
            fault = f"is {value} in row {row + 1}, where only finite numbers may be"
            raise UserError(path, f"column {name}", fault, remedy)


def write_table(frame: pl.DataFrame, path, schema: pl.Schema) -> None:
    """Write `frame` to `path` as parquet, whole or not at all, and sealed.

    Columns must have the names, order and types of `schema`; raises TypeError otherwise, and UserError, before anything
    is written, if a number is not finite.
    """
    if frame.schema != schema:
        raise TypeError(f"{path}: columns {dict(frame.schema)} are not the declared {dict(schema)}")
    check_finite(frame.lazy(), path, NOT_WRITTEN)
    with whole(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=True, metadata={"seal": UNSEALED})
        seal(temporary)


def read_table(path, schema: pl.Schema | None = None) -> pl.DataFrame:
    """Read a parquet table and check its schema and numbers; a damaged or foreign file is a UserError."""
    try:
        if not seal_holds(path):  # parquet as polars writes it has no checksums: a flipped bit would be another number
            raise UserError(path, None, "was altered since it was written", REBUILD)
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(path, None, f"is not a readable parquet file ({first_line})", REBUILD) from error
    if schema is not None and frame.schema != schema:
        missing = sorted(set(schema) - set(frame.columns))
        extra = sorted(set(frame.columns) - set(schema))
        raise UserError(
            path,
            None,
            f"has other columns than declared (missing {missing}, unexpected {extra}, or another type or order)",
            REBUILD,
        )
    check_finite(frame.lazy(), path, REBUILD)
    return frame


def scan_table(path, schema: pl.Schema) -> pl.LazyFrame:
    """A parquet table, unread, its seal, schema and numbers checked; a damaged or foreign file is a UserError."""
    try:
        as_declared = seal_holds(path) and pl.scan_parquet(path).collect_schema() == schema
    except (pl.exceptions.PolarsError, OSError):
        as_declared = False
    if not as_declared:
        read_table(path, schema)  # raises, and says what is wrong
    check_finite(pl.scan_parquet(path), path, REBUILD)
    return pl.scan_parquet(path)
