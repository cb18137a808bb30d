"""Calibration: do the probabilities of answers match the shares of correct ones?"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy import stats

from hidden_rule.experiment.runs import Run, Setting
from hidden_rule.statistics.intervals import share_interval

BINS, LEAST = 10, 20  # maximum number of bins, and least number of applications in a bin


def confidences(
    predictions: Mapping[Run, pl.LazyFrame], labels: list[str], setting: Setting
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By condition (N, S) probabilities of the most probable label, and whether it is the correct one; S seeds.

    Labels' probabilities are those of structured decoding. Conditions without probabilities are left out.
    """
    columns = [f"p_{label}" for label in labels]
    found: dict[str, list] = {}
    for run, answers in predictions.items():
        rows = (
            answers.filter(**setting.columns)
            .select("application_id", "label", *columns)
            .sort("application_id")
            .collect()
        )
        p = rows.select(columns).to_numpy()
        if len(p) and np.isfinite(p).all():
            right = np.array(labels)[p.argmax(1)] == rows["label"].to_numpy()
            found.setdefault(run.condition, []).append((p.max(1), right.astype(np.int64)))
    return {
        name: (np.stack([p for p, _ in of], axis=1), np.stack([right for _, right in of], axis=1))
        for name, of in found.items()
    }


def reliability(p: np.ndarray, right: np.ndarray, n_bins: int | None = None) -> tuple[pl.DataFrame, float]:
    """Bins of a reliability diagram, and the expected calibration error.

    p, right: (N, S) probabilities of the answers, and zeros and ones. Bins have equal mass (as many answers each),
    except that equal probabilities stay in one bin. Columns: `p` (mean), `share` (correct), `low`, `high`, `n`.
    Intervals are Wilson's at 95%, with an effective number of rows where several seeds answer the same applications.

    The error is Σ n_b / n · |share_b − p_b| over bins b (Naeini, Cooper & Hauskrecht 2015, AAAI; Guo et al. 2017, ICML,
    with bins of equal width). It is above 0 by chance even for calibrated probabilities, the more so the fewer rows.
    """
    n_bins = n_bins or int(np.clip(len(p) // LEAST, 1, BINS))
    rank = stats.rankdata(p, method="average").reshape(p.shape)
    places = np.minimum(((rank - 0.5) / p.size * n_bins).astype(int), n_bins - 1)
    rows = []
    for place in np.unique(places):
        counted = (places == place).astype(np.int64)
        n = int(counted.sum())
        share, low, high = share_interval(right * counted, counted, np.ones(len(p), np.int64))
        rows.append((float(p[counted == 1].mean()), share, low, high, n))
    schema = {**dict.fromkeys(["p", "share", "low", "high"], pl.Float64), "n": pl.Int64}
    bins = pl.DataFrame(rows, schema=schema, orient="row")
    error = (bins["n"] * (bins["share"] - bins["p"]).abs()).sum() / p.size
    return bins, float(error)
