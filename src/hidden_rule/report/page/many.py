"""Tables that would be wider than a page: with a column a condition, or of long words."""

import re
from collections import Counter

COLUMNS = 8  # conditions beside each other, at most
LINE = 110  # characters that a line of a table on A4 holds


def narrower(table: dict | None) -> dict | None:
    """The table with a row a condition instead of a column, where it has more than COLUMNS of them."""
    if table is None or len(table["columns"]) <= COLUMNS + 1:
        return table
    names = table["columns"][1:]
    rows = [[name, *(row[i] for row in table["rows"])] for i, name in enumerate(names, 1)]
    return table | {"columns": ["condition", *(row[0] for row in table["rows"])], "rows": rows, "wrap": True}


def by_value(table: dict | None) -> dict | None:
    """A table of settings with a column a condition: of many, the most frequent value and who differs."""
    if table is None or len(table["columns"]) <= COLUMNS + 1:
        return table
    names = table["columns"][1:]
    rows = []
    for setting, *values in table["rows"]:
        usual = Counter(values).most_common(1)[0][0]
        others: dict[str, list[str]] = {}
        for name, value in zip(names, values, strict=True):
            if value != usual:
                others.setdefault(value, []).append(name)
        rows.append([setting, usual, "; ".join(f"{value}: {', '.join(of)}" for value, of in others.items()) or "none"])
    return table | {"columns": [table["columns"][0], "most conditions", "others"], "rows": rows, "wrap": True}


def fits_page(table: dict) -> bool:
    """Whether the longest words of its columns stand beside each other on a printed page; otherwise words break."""
    columns = zip(table["columns"], *table["rows"], strict=False)
    return sum(1 + max(len(word) for cell in of for word in re.split(r"[\s\-–]", str(cell))) for of in columns) <= LINE
