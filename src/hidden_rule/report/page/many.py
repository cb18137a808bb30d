"""Tables with a column a condition, for experiments with so many that they would be wider than a page."""

from collections import Counter

COLUMNS = 8  # conditions beside each other, at most


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
