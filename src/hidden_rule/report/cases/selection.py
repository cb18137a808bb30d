"""Which evaluated cases the page holds: all, or of many a seeded sample in which informative ones come first."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run

MOST = 5000  # cases in the file
MOST_NUMBERS = 6_000_000  # probabilities and answers in it, at some two to four bytes each
FEWEST = 200  # cases, whatever each holds
SEED = 0


@dataclass(frozen=True)
class Selection:
    """ids: (N,) of the cases that are shown, ascending; the counts are of all that were evaluated."""

    ids: pl.Series
    n_evaluated: int
    n_informative: int  # answered wrongly by one of `by`, or otherwise by one than by another
    n_informative_shown: int
    by: tuple[str, ...]  # the conditions whose answers decide what is informative

    @property
    def is_sample(self) -> bool:
        return len(self.ids) < self.n_evaluated


def select_cases(results: Results, most: int = MOST) -> Selection:
    """Choose at most `most` cases, fewer of many runs and labels.

    Where there are more, those come first that a trained condition answers wrongly, or that trained conditions answer
    otherwise under one seed and decoding; without training any condition counts.
    """
    trained = [run for run in results.runs if run.method]
    answers = informative_answers(results, trained or results.runs)
    per_case = len(results.runs) * (len(results.labels) + 2)
    limit = min(most, max(FEWEST, MOST_NUMBERS // per_case))
    ids, informative = answers["application_id"], answers["informative"].to_numpy()
    order = np.random.default_rng(SEED).permutation(len(ids))
    order = order[np.argsort(~informative[order], kind="stable")][:limit]
    return Selection(
        ids=ids.gather(np.sort(order)),
        n_evaluated=len(ids),
        n_informative=int(informative.sum()),
        n_informative_shown=int(informative[order].sum()),
        by=tuple(dict.fromkeys(run.condition for run in trained or results.runs)),
    )


def informative_answers(results: Results, runs: list[Run]) -> pl.DataFrame:
    """Columns `application_id` (ascending, once each) and `informative`, of all cases that these runs answered."""
    columns = ["application_id", "decoding", "label", "predicted"]
    scans = [results.predictions(run).select(columns).with_columns(seed=pl.lit(run.seed)) for run in runs]
    wrong = pl.col("predicted").ne_missing(pl.col("label")).any()
    differ = pl.col("predicted").n_unique() > 1
    return (
        pl.concat(scans)
        .group_by("application_id", "decoding", "seed")
        .agg(informative=wrong | differ)
        .group_by("application_id")
        .agg(pl.col("informative").any())
        .sort("application_id")
        .collect()
    )
