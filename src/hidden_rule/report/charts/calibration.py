"""Chart of calibration: is a decision that is given with 80% probability right in 80% of cases?"""

import altair as alt
import numpy as np
import polars as pl
from scipy import stats

from hidden_rule.report.charts.style import (
    finish,
    in_words,
    nothing_to_show,
    panel_title,
    seeds_in_words,
    title,
    wrapped,
)
from hidden_rule.statistics.intervals import share_interval
from hidden_rule.statistics.outcomes import scan_predictions

HEADLINE = "Are probabilities to be trusted?"
BINS, LEAST = 10, 20  # at most, and applications that each holds at least
COLUMNS, LINE = 4, 22  # panels in a row; characters of a name in one line


def confidences(predictions, jobs, labels, reading) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By condition (N, S) probabilities of the most probable label, and whether it is the right one; S seeds.

    Labels' probabilities are those of structured decoding. Conditions without probabilities are left out.
    """
    of_label = [f"p_{label}" for label in labels]
    found: dict[str, list] = {}
    for path, (condition, _) in zip(predictions, jobs, strict=True):
        rows = (
            scan_predictions(path, labels)
            .filter(suite=reading[0], decoding=reading[1])
            .select("application_id", "label", *of_label)
            .sort("application_id")
            .collect()
        )
        p = rows.select(of_label).to_numpy()
        if len(p) and np.isfinite(p).all():
            right = np.array(labels)[p.argmax(1)] == rows["label"].to_numpy()
            found.setdefault(condition, []).append((p.max(1), right.astype(np.int64)))
    return {name: tuple(np.stack(part, axis=1) for part in zip(*of, strict=True)) for name, of in found.items()}


def reliability(p: np.ndarray, right: np.ndarray, n_bins: int | None = None) -> tuple[pl.DataFrame, float]:
    """Bins of a reliability diagram, and the expected calibration error.

    p, right: (N, S) probabilities of what was answered, and zeros and ones. Bins hold as many answers each (equal
    mass), but for equal probabilities, which stay together. Columns: `p` (mean), `share` (right), `low`, `high`, `n`.
    Intervals are Wilson's at 95%, with an effective number of rows where several seeds answer the same applications.

    The error is Σ n_b / n · |share_b − p_b| over bins b (Naeini, Cooper & Hauskrecht 2015, AAAI; Guo et al. 2017, ICML,
    who take bins of equal width). It is above 0 by chance even where probabilities are right, the more the fewer rows.
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
    bins = pl.DataFrame(rows, schema={**dict.fromkeys(["p", "share", "low", "high"], pl.Float64), "n": pl.Int64},
                        orient="row")  # fmt: skip
    error = (bins["n"] * (bins["share"] - bins["p"]).abs()).sum() / p.size
    return bins, float(error)


def calibration_chart(predictions, jobs, labels, colours: dict, reading, config: dict) -> alt.TopLevelMixin:
    """A reliability diagram of each condition, its expected calibration error in its title."""
    labels = list(labels)
    found = confidences(predictions, jobs, labels, reading)
    if not found:
        return nothing_to_show(HEADLINE, "No condition of this experiment gives probabilities.", config["width"])
    lines = max(len(wrapped(name, LINE)) for name in found)
    panels = []
    for name, (p, right) in found.items():
        bins, error = reliability(p, right)
        x = alt.X("p:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=percents(2))
        y = alt.Y("share:Q", title="right", scale=alt.Scale(domain=[0, 1]), axis=percents(4))
        diagonal = alt.Chart(pl.DataFrame({"p": [0.0, 1.0], "share": [0.0, 1.0]})).mark_line(
            color="#888", strokeDash=[4, 4], strokeWidth=1
        )
        base = alt.Chart(bins)
        tooltip = [alt.Tooltip("p:Q", format=".1%"), alt.Tooltip("share:Q", format=".1%"),
                   alt.Tooltip("low:Q", format=".1%"), alt.Tooltip("high:Q", format=".1%"), "n:Q"]  # fmt: skip
        layers = [
            diagonal.encode(x=x, y=y),
            base.mark_rule(color=colours[name], strokeWidth=2).encode(
                x=x, y=alt.Y("low:Q", title="right"), y2="high:Q"
            ),
            base.mark_circle(color=colours[name], size=50, opacity=1).encode(x=x, y=y, tooltip=tooltip),
        ]
        head = wrapped(name, LINE)
        heading = panel_title([""] * (lines - len(head)) + head, subtitle=f"ECE {100 * error:.1f} points")
        panels.append(alt.layer(*layers).properties(width=165, height=165, title=heading))
    first = next(iter(found.values()))[0]
    notes = [
        f"{in_words(reading)}; n = {len(first):,} applications; {seeds_in_words(seed for _, seed in jobs)}",
        "Point: answers of about equal probability, and the share of them that is right, with its 95% interval",
        "Dashed: right as often as probable. ECE: expected calibration error, mean distance of the points from it",
    ]
    columns = min(COLUMNS, len(panels))
    return finish(alt.concat(*panels, columns=columns, spacing=28).properties(title=title(HEADLINE, *notes)))


def percents(n: int) -> alt.Axis:
    """An axis from 0 to 100% with `n` steps."""
    return alt.Axis(format="%", values=[i / n for i in range(n + 1)], labelOverlap=False)
