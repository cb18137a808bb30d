"""Text and tables as LaTeX. No text of a config, a ruleset or a reply can become a command."""

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "–": "--", "—": "---", "−": r"\ensuremath{-}", "×": r"\ensuremath{\times}", "→": r"\ensuremath{\rightarrow}",
    "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}", "±": r"\ensuremath{\pm}", "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
    "\N{ZERO WIDTH SPACE}": "",
}  # fmt: skip
PACKAGES = (
    "% needs \\usepackage{booktabs}, \\usepackage{graphicx}, \\usepackage[T1]{fontenc} and \\usepackage{textcomp}"
)
SCALED = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"  # to the text's width, if it is wider


def escaped(text: str) -> str:
    """A text as LaTeX shows it, on one line; control characters are left out."""
    words = " ".join(str(text).split())
    return "".join(SPECIAL.get(c, c) for c in words if c.isprintable() or c in SPECIAL)


def latex_table(table: dict, label: str) -> str:
    """A table of the report (`caption`, `columns`, `rows`) in booktabs' style; `label`: of letters, digits and `-`."""
    columns = [escaped(column) for column in table["columns"]]
    lines = [" & ".join(escaped(cell) for cell in row) + r" \\" for row in table["rows"]]
    body = [
        SCALED,
        r"\begin{tabular}{" + "l" * len(columns) + "}",
        r"\toprule",
        " & ".join(columns) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    head = [PACKAGES, r"\begin{table}[t]", r"\centering", rf"\caption{{{escaped(table['caption'])}}}"]
    return "\n".join([*head, rf"\label{{tab:{label}}}", *body, r"\end{table}", ""])
