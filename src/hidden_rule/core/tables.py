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
        "p_adjusted": pl.Float64,  # for all pairs of the same suite, decoding, metric, rule and seed (Holm)
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
        "condition": pl.String,  # one that GRPO trains
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

COSTS = pl.Schema(
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "stage": pl.String,  # train | evaluate
        "wall_s": pl.Float64,
        "n_tokens_trained": pl.Int64,
        "n_tokens_generated": pl.Int64,
        "peak_bytes": pl.Int64,
        "device": pl.String,
    }
)

SUPERVISION = pl.Schema(  # a row a training; docs/label-curves.md has the formulas
    {
        "condition": pl.String,
        "seed": pl.Int64,
        "method": pl.String,  # sft | grpo
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
