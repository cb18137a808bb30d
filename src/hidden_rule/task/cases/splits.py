"""Which cases of a file are trained on and which measure: by chance within each label, by group, by time, by column.

Equal cases never stand in two splits, unless nearly all cases repeat others; nor do cases of one group. Shares of
labels are those of the file, unless a balanced training split is asked for. Rows that no split needs are left unused,
which is said.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import quoted
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import ROW
from hidden_rule.task.cases.findings import CASE
from hidden_rule.task.dataset import SPLITS

SHARES = {"train": 0.4, "validation": 0.1, "test": 0.1, "holdout": 0.4}  # where a file has fewer rows than are usual
NAMES = {  # of a column that says which split a case is in
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "holdout": "holdout",
}  # fmt: skip
GROUP, TIME, SPLIT = "\x00group", "\x00time", "\x00split"
FEW_DISTINCT = 0.25  # of the cases; fewer different ones cannot be kept apart
MIN_OF_LABEL = len(SPLITS)  # cases, so that each split can have one


@dataclass(frozen=True)
class SplitSettings:
    """How cases are divided. `sizes`: rows wanted by split; those not in `asked` are usual ones, and give way."""

    sizes: dict[str, int]
    asked: frozenset[str]
    seed: int
    balance: bool = False  # the training split has as many cases of each label as there are of the rarest


def fitted_sizes(path, settings: SplitSettings, n_rows: int) -> dict[str, int]:
    """Rows of each split: as asked for; usual sizes as far as the file has them, else in the proportions SHARES."""
    asked = {split: settings.sizes[split] for split in SPLITS if split in settings.asked}
    left = n_rows - sum(asked.values())
    free = {split: settings.sizes[split] for split in SPLITS if split not in asked}
    if n_rows < len(SPLITS):
        raise UserError(path, None, f"has {n_rows} cases, and {len(SPLITS)} splits need one each", "give more cases")
    if left < len(free):
        total, largest = sum(asked.values()), max(asked, key=lambda split: asked[split])
        splits = " and ".join(asked)
        fault = f"{splits} {'asks' if len(asked) == 1 else 'ask'} for {total:,} rows, and {path} has {n_rows:,} in all"
        raise CaseSettingError(largest, fault, f"give at most {max(2, asked[largest] + left - len(free)):,}")
    if left < sum(free.values()):
        share = sum(SHARES[split] for split in free)
        free = {split: max(1, int(left * SHARES[split] / share)) for split in free}
    return {split: asked.get(split, free.get(split, 0)) for split in SPLITS}


def split_rows(path, cases: pl.DataFrame, settings: SplitSettings) -> tuple[dict[str, pl.Series], list[str]]:
    """The row numbers of each split, in random order, and lines on how they were chosen.

    cases: ROW, CASE and `label` of every row, and GROUP, TIME or SPLIT if the user names a column for it.
    """
    n_distinct = cases[CASE].n_unique()
    repeated: list[str] = []
    if n_distinct < FEW_DISTINCT * len(cases):
        cases = cases.with_columns(pl.col(ROW).cast(pl.UInt64).alias(CASE))
        repeated = [f"there are {n_distinct:,} different cases: equal ones stand in several splits"]
    if SPLIT in cases.columns:
        found, lines = _by_column(path, cases, settings)
    elif TIME in cases.columns:
        found, lines = _by_time(path, cases, settings)
    else:
        found, lines = _by_chance(path, cases, settings)
    labels = cases["label"].unique().to_list()
    for split in SPLITS:
        if len(found[split]) == 0:
            raise UserError(path, f"split {split}", "has no case left", "give more cases, or other split settings")
        if missing := sorted(set(labels) - set(found[split]["label"])):
            lines.append(f"{split} has no case of {', '.join(missing)}")
    if settings.balance:
        found["train"] = _balanced(found["train"], settings)
        lines.append("train has equally many cases of each label (data.balance)")
    unused = len(cases) - sum(map(len, found.values()))
    if unused:
        lines.append(f"{unused:,} of {len(cases):,} cases are in no split: raise data.train, … to use more")
    rng = np.random.default_rng([settings.seed, 1])
    return {split: found[split][ROW][rng.permutation(len(found[split]))] for split in SPLITS}, [*lines, *repeated]


def _by_chance(path, cases: pl.DataFrame, settings: SplitSettings) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Stratified by label; equal cases, and those of a group, together."""
    grouped = GROUP in cases.columns
    counts = cases["label"].value_counts().sort("count", "label")
    if not grouped and counts["count"][0] < MIN_OF_LABEL:
        label, n = counts.row(0)
        fault = f"{quoted(label)} has {n} case{'s' * (n > 1)}, and {len(SPLITS)} splits need one each"
        raise UserError(path, "labels", fault, "give more of it, merge it with another label, or delete its rows")
    sizes = fitted_sizes(path, settings, len(cases))
    if settings.balance:  # of all that the other splits leave
        sizes["train"] = len(cases) - sum(n for split, n in sizes.items() if split != "train")
    unit = _units(cases, GROUP if grouped else CASE)
    found = _allotted(unit, cases, sizes, np.random.default_rng([settings.seed, 0]))
    n_units = unit["unit"].n_unique()
    how = f"no group of {n_units:,} in two splits" if grouped else "shares of labels as in the file"
    return found, [f"split by chance, {how}"]


def _units(cases: pl.DataFrame, column: str) -> pl.DataFrame:
    """What goes to one split as a whole, in the order of first rows: `unit`, `n` cases, the `label` most of them have.

    Groups that share an equal case are one unit.
    """
    units = cases.select(ROW, "label", unit=column)
    if column == GROUP:
        units = units.with_columns(_joined(cases[GROUP], cases[CASE]).alias("unit"))
    most = units.group_by("unit", "label").agg(n=pl.len()).sort(["unit", "n", "label"], descending=[False, True, False])
    stratum = most.unique("unit", keep="first", maintain_order=True).select("unit", stratum="label")
    found = units.group_by("unit").agg(n=pl.len(), first=pl.col(ROW).min(), rows=pl.col(ROW))
    return found.join(stratum, on="unit").sort("first")


def _joined(groups: pl.Series, cases: pl.Series) -> pl.Series:
    """A number for each row that rows of one group share, and rows of groups with an equal case."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left = groups.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    right = cases.rank("dense").cast(pl.Int64).to_numpy() + int(left.max()) + 1
    size = int(right.max()) + 1
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(size, size))
    return pl.Series(connected_components(graph, directed=False)[1][left])


def _allotted(units: pl.DataFrame, cases: pl.DataFrame, sizes: dict[str, int], rng) -> dict[str, pl.DataFrame]:
    """Units to splits so that each has its size and, within it, the labels' shares of all cases.

    Units of several cases come first, the largest before others, each to the split that lacks most of its label; single
    ones fill what is then missing exactly.
    """
    taken: dict[str, list[int]] = {split: [] for split in SPLITS}
    totals = dict(units.group_by("stratum").agg(pl.col("n").sum()).sort("stratum").iter_rows())
    for label, lacking in _quotas(sizes, totals).items():
        of_label = units.filter(stratum=label)
        shuffled = of_label[rng.permutation(len(of_label))]
        several = shuffled.filter(pl.col("n") > 1).sort("n", descending=True, maintain_order=True)
        for n, rows in several.select("n", "rows").iter_rows():
            split = max(SPLITS, key=lambda name: lacking[name])
            if lacking[split] >= n / 2:
                taken[split] += rows
                lacking[split] -= n
        single, start = shuffled.filter(n=1)["first"].to_list(), 0
        for split in SPLITS:
            end = start + max(0, lacking[split])
            taken[split] += single[start:end]
            start = end
    chosen = {split: pl.DataFrame({ROW: pl.Series(rows, dtype=pl.Int64)}) for split, rows in taken.items()}
    return {split: cases.join(rows, on=ROW, how="semi", maintain_order="left") for split, rows in chosen.items()}


def _quotas(sizes: dict[str, int], totals: dict[str, int]) -> dict[str, dict[str, int]]:
    """Each label's cases in each split: its share of the split (largest remainders), one at least if there are any."""
    n_all, left = sum(totals.values()), dict(totals)
    quotas: dict[str, dict[str, int]] = {label: dict.fromkeys(SPLITS, 0) for label in totals}
    for label, n in totals.items():
        for split in SPLITS:
            wanted = max(1, sizes[split] * n // n_all) if sizes[split] else 0
            quotas[label][split] = min(wanted, left[label])
            left[label] -= quotas[label][split]
    for split in SPLITS:
        exact = {label: sizes[split] * n / n_all for label, n in totals.items()}
        while (missing := sizes[split] - sum(of[split] for of in quotas.values())) > 0 and any(left.values()):
            open_labels = [label for label in totals if left[label]]
            label = max(open_labels, key=lambda name: exact[name] - quotas[name][split])
            step = max(1, min(missing // len(open_labels), left[label]))
            quotas[label][split] += step
            left[label] -= step
    return quotas


def _by_time(path, cases: pl.DataFrame, settings: SplitSettings) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """The earliest cases train, those after them validate, the latest are test and holdout, these two by chance."""
    sizes = fitted_sizes(path, settings, len(cases))
    ordered = cases.sort(TIME, ROW)
    n_used = sum(sizes.values())
    ordered = ordered.tail(n_used)  # the latest, where there are more than are used
    later = sizes["test"] + sizes["holdout"]
    starts = _at_a_change(ordered[TIME], [sizes["train"], n_used - later])
    parts = [ordered[: starts[0]], ordered[starts[0] : starts[1]], ordered[starts[1] :]]
    early = parts[0]
    parts[1] = parts[1].join(early, on=CASE, how="anti", maintain_order="left")
    last = parts[2].join(pl.concat([early, parts[1]]), on=CASE, how="anti", maintain_order="left")
    dropped = n_used - len(early) - len(parts[1]) - len(last)
    share = sizes["test"] / later
    halves = {"train": 0, "validation": 0, "test": round(share * len(last)), "holdout": 0}
    halves["holdout"] = len(last) - halves["test"]
    found = _allotted(_units(last, CASE), last, halves, np.random.default_rng([settings.seed, 0])) if len(last) else {}
    found = {split: found.get(split, last) for split in SPLITS} | {"train": early, "validation": parts[1]}
    lines = ["split by time: train before validation before test and holdout"]
    if dropped:
        lines.append(f"{dropped:,} later cases that equal an earlier one are in no split")
    return found, lines


def _at_a_change(times: pl.Series, starts: list[int]) -> list[int]:
    """Each place moved to the nearest at which the time changes: cases of one time stand in one split."""
    changes = np.flatnonzero((times != times.shift(1)).fill_null(True).to_numpy())
    changes = np.append(changes, len(times))
    moved: list[int] = []
    for start in starts:
        nearest = changes[np.argmin(np.abs(changes - start))]
        moved.append(int(max(nearest, moved[-1] if moved else 0)))
    return moved


def _by_column(path, cases: pl.DataFrame, settings: SplitSettings) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """As a column says; validation rows are taken from train, and holdout rows from test, where it names none."""
    names = cases.with_columns(pl.col(SPLIT).str.strip_chars().str.to_lowercase().alias("name"))
    unknown = names.filter(~pl.col("name").is_in(list(NAMES)) | pl.col("name").is_null()).sort(ROW)
    if len(unknown):
        shown = "is empty" if unknown[SPLIT][0] is None else f"{quoted(unknown[SPLIT][0])} is no split"
        remedy = "write train, validation, test or holdout"
        raise UserError(path, f"row {unknown[ROW][0]}, data.split", shown, remedy)
    named = names.with_columns(pl.col("name").replace_strict(NAMES))
    parts = {split: named.filter(name=split).drop("name") for split in SPLITS}
    counted = ", ".join(f"{split} {len(part):,}" for split, part in parts.items() if len(part))
    lines, rng = [f"split as the column says: {counted}"], np.random.default_rng([settings.seed, 0])
    for whole, part in (("train", "validation"), ("test", "holdout"), ("holdout", "test")):
        if len(parts[whole]) and not len(parts[part]):
            n = max(1, round(len(parts[whole]) * SHARES[part] / (SHARES[whole] + SHARES[part])))
            sizes = dict.fromkeys(SPLITS, 0) | {whole: len(parts[whole]) - n, part: n}
            divided = _allotted(_units(parts[whole], CASE), parts[whole], sizes, rng)
            lines.append(f"{part}: {n:,} of the {len(parts[whole]):,} rows of {whole}, by chance within each label")
            parts |= {whole: divided[whole], part: divided[part]}
    for split, wanted in settings.sizes.items():
        if len(parts[split]) > wanted:
            parts[split] = parts[split][np.sort(rng.permutation(len(parts[split]))[:wanted])]
    seen = parts["train"]
    for split in SPLITS[1:]:
        kept = parts[split].join(seen, on=CASE, how="anti", maintain_order="left")
        if n := len(parts[split]) - len(kept):
            lines.append(f"{split}: {n:,} cases that equal one of an earlier split are left out")
        parts[split], seen = kept, pl.concat([seen, kept])
    return parts, lines


def _balanced(train: pl.DataFrame, settings: SplitSettings) -> pl.DataFrame:
    """Equally many cases of each label: as many as the rarest has, or as the size asks for."""
    counts = dict(train["label"].value_counts().sort("label").iter_rows())
    each = min(min(counts.values()), max(1, settings.sizes["train"] // len(counts)))
    shuffled = train[np.random.default_rng([settings.seed, 2]).permutation(len(train))]
    return pl.concat([shuffled.filter(label=label).head(each) for label in counts]).sort(ROW)
