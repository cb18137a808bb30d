"""How numbers are written in sentences and tables."""

import math

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.runs import Estimate

MANY = 8  # with more conditions than this, reports and charts summarize groups of them


def shown(value: float) -> float:
    """A number that is to be shown; raises UserError for one that is not finite: no page says nan."""
    if not math.isfinite(value):
        raise UserError("report.html", None, f"a number to be shown is {value}", "see which tables it was made from")
    return value


def percent(value: float) -> str:
    return f"{100 * shown(value):.1f}%"


def interval(low: float, high: float) -> str:
    """`86.3–90.3` of two shares, in percent or points; `−0.4 to 3.6` where one is negative."""
    return f"{points(low)} to {points(high)}" if low < 0 else f"{points(low)}–{points(high)}"


def with_interval(estimate: Estimate | None) -> str:
    """`88.4% (95% CI 86.3–90.3)`, for sentences; a dash where it is undefined."""
    if estimate is None:
        return "–"
    return f"{percent(estimate.value)} (95% CI {interval(estimate.low, estimate.high)})"


def in_table(estimate: Estimate | None) -> str:
    """`88.4% (86.3–90.3)`, for tables, whose captions say what the interval is; a dash where it is undefined."""
    return with_interval(estimate).replace("95% CI ", "")


def p_text(p_value: float) -> str:
    """A p-value in two digits; below 0.001 only that, since no model of the data is so exact."""
    p_value = shown(p_value)
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}" if p_value < 0.1 else f"p = {p_value:.2f}"


def points(share: float) -> str:
    """`1.6` or `−1.6` percentage points, with a true minus sign."""
    return f"{100 * shown(share):z.1f}".replace("-", "\N{MINUS SIGN}")


def signed(share: float) -> str:
    """`+1.6` or `−1.6` percentage points."""
    return ("+" if share >= 0 else "") + points(share)


def amount(value: float) -> str:
    """`1,240`, `41.2`, `0.034`: an amount in three digits and more, with a true minus sign."""
    size = abs(shown(value))
    text = (
        f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 or size == 0 else f"{float(f'{value:.3g}'):g}"
    )
    return "0" if value == 0 else text.replace("-", "\N{MINUS SIGN}")


def signed_amount(value: float) -> str:
    """`+41.2` or `−41.2`: a difference of amounts."""
    return ("+" if value >= 0 else "") + amount(value)


def amount_interval(low: float, high: float) -> str:
    """`36.0–47.1` of two amounts; `−3 to 12` where one is negative."""
    return f"{amount(low)} to {amount(high)}" if low < 0 else f"{amount(low)}–{amount(high)}"


def listing(words) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def operations(flops: float) -> str:
    """`1.2 PFLOP`: a number of floating-point operations in two digits, with the SI prefix that fits."""
    size, prefix = next(
        ((s, p) for s, p in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")) if flops >= s), (1e6, "M")
    )
    return f"{float(f'{shown(flops) / size:.2g}'):,g} {prefix}FLOP"


def money(amount: float) -> str:
    """`1.20`; below 0.10 in two digits: `0.034`."""
    return f"{shown(amount):,.2f}" if amount >= 0.1 or amount == 0 else f"{float(f'{amount:.2g}'):.12f}".rstrip("0")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(shown(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
