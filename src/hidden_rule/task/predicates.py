"""SQL predicates: what one may hold, and the values that it compares features with."""

import itertools
import re

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.task.nouns import APPLICATION, CaseNouns

# fmt: off
FUNCTIONS = {  # of SQL, that answer for one row at a time and always alike; the others are refused
    "abs", "ceil", "ceiling", "floor", "round", "sqrt", "cbrt", "pow", "power", "mod", "div", "exp", "ln", "log",
    "log2", "log10", "log1p", "sign", "lower", "upper", "initcap", "length", "char_length", "octet_length", "left",
    "right", "substr", "substring", "trim", "btrim", "ltrim", "rtrim", "replace", "reverse", "concat", "concat_ws",
    "starts_with", "ends_with", "strpos", "regexp_like", "coalesce", "nullif", "ifnull", "if", "greatest", "least",
    "cast", "try_cast", "in", "and", "or", "not", "when", "then", "else", "case", "between", "like", "ilike", "is",
}
OF_THE_CLOCK = {"now", "today", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
# fmt: on
SQL_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|\w+|<>|!=|<=|>=|[^\s\w]"""
)
OPERATION = re.compile(r"(?i)and|or|not|when|case|between|[-+*/%|&^~]|=|<>|!=|<=|>=|<|>")
MAX_OPERATIONS = 64  # of a predicate; the time that polars takes grows with their third power
MAX_LENGTH = 20_000  # characters of a predicate
MAX_POINTS, MAX_CELLS = 200_000, 4_000_000  # rows, and values, of critical points
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)  # of polars: of its own making too
TABLE_FUNCTION = re.compile(r"(?i)read_\w+")  # of polars' SQL: from a file, or from any host
SUBQUERY = re.compile(r"(?i)\b(?:select|from|join|table)\b")


def parse_predicate(when: str) -> pl.Expr:
    """The expression of an SQL predicate; raises SQLInterfaceError or another of FAILURES where it is none.

    Polars runs a subquery while it parses, and one may read files and hosts: what could is refused before, wherever it
    stands, quoted or not. Every predicate is parsed here, as rulesets and results may be somebody else's.
    """
    if (found := TABLE_FUNCTION.search(when)) and SUBQUERY.search(when):
        raise pl.exceptions.SQLInterfaceError(f"{found[0][:40]} may read a file, which no predicate does")
    return pl.sql_expr(when)


def check_predicate(path, key: str, when: str, ruleset, sample: pl.DataFrame) -> None:
    """`when` parses, names known features only, answers yes or no for one application at a time."""
    features = {feature.name: feature for feature in ruleset.features}
    n_operations = operations(when)
    if n_operations > MAX_OPERATIONS or len(when) > MAX_LENGTH:
        size = f"{n_operations} operations" if n_operations > MAX_OPERATIONS else f"{len(when)} characters"
        fault = f"has {size}, of at most {MAX_OPERATIONS if n_operations > MAX_OPERATIONS else MAX_LENGTH}"
        raise UserError(path, key, fault, "list values as in x IN (1, 2), or make several rules of it")
    try:
        predicate = parse_predicate(when)
        columns = predicate.meta.root_names()
    except FAILURES as error:
        keywords = [name for name in features if name in SQL_TOKEN.findall(when) and _is_keyword(name)]
        remedy = "mend the SQL" + (f", and put {keywords[0]}, a word of SQL, in double quotes" if keywords else "")
        raise UserError(path, key, f"is not a valid SQL predicate ({_first_line(error)})", remedy) from None
    if alias := re.search(r'\.alias\("([^"]*)"\)$', str(predicate)):
        fault = f"ends in {alias[1]}, which is read as a name for the result"
        raise UserError(path, key, fault, "leave it out, or mend the SQL")
    for column in columns:
        if column not in features:
            is_value = any(column in feature.choices for feature in features.values())
            remedy = f"write the value in single quotes: '{column}'" if is_value else did_you_mean(column, features)
            raise UserError(path, key, f"unknown feature {column}", remedy)
    if not columns:
        raise UserError(path, key, "names no feature", f"compare a feature, one of {', '.join(features)}")
    _check_row_wise(path, key, when, features, ruleset.case)
    _check_choices(path, key, when, features)
    try:
        answers = sample.select(answer=predicate)
        one_by_one = pl.concat([row.select(answer=predicate) for row in sample.iter_slices(1)])
    except FAILURES as error:
        remedy = "compare numbers with numbers and texts with texts"
        raise UserError(path, key, f"cannot be evaluated ({_first_line(error)})", remedy) from None
    if answers["answer"].dtype != pl.Boolean:
        fault = f"gives {answers['answer'].dtype}, not true or false"
        raise UserError(path, key, fault, "compare the feature with a value")
    if not answers.equals(one_by_one):
        fault = f"depends on other {ruleset.case.many} (an aggregate)"
        raise UserError(path, key, fault, f"judge one {ruleset.case.one} at a time")


def _is_keyword(name: str) -> bool:
    """Whether SQL takes a feature's name for a word of its own."""
    try:
        return pl.sql_expr(f"{name} = 1").meta.root_names() != [name]
    except FAILURES:
        return True


def operations(when: str) -> int:
    """How many operators a predicate has."""
    return sum(bool(OPERATION.fullmatch(token)) for token in SQL_TOKEN.findall(when))


def check_answers(path, key: str, rule, cases: pl.DataFrame, nouns: CaseNouns = APPLICATION) -> None:
    """A rule has an answer for each of `cases`, by arithmetic that holds.

    Whole numbers are multiplied within 64 bits, beyond which they would start again from below zero; no rule fires
    where a part of it is no number (0 / 0), which polars takes to be larger than all others.
    """
    try:
        answers = cases.select(rule.predicate).to_series()
    except FAILURES as error:
        fault = f"cannot be evaluated for some {nouns.many} ({_first_line(error)})"
        raise UserError(path, key, fault, "divide by what is never 0, and take TRY_CAST for CAST") from None
    tokens = {token.lower() for token in SQL_TOKEN.findall(rule.when)}
    as_text = {"cast", "try_cast", "concat", "concat_ws", ":", "|"}  # 5 and 5.0 are two texts
    if tokens & {"*", "pow", "power"} and not tokens & as_text:
        with_floats = cases.with_columns(pl.selectors.integer().cast(pl.Float64))
        if not answers.equals(with_floats.select(rule.predicate).to_series()):
            remedy = "write 1.0 * x, so that it is computed with a point, or divide first"
            raise UserError(path, key, "multiplies to more than a whole number of 64 bits holds", remedy)
    if tokens & {"/", "%", "sqrt", "ln", "log", "log2", "log10", "log1p", "pow", "power", "exp"}:
        fires = cases.filter(answers)
        for part in _parts(parse_predicate(rule.when)):
            value = fires.select(part).to_series()
            if value.dtype.is_float() and value.is_nan().any():
                fault = "holds where a part of it is no number, as 0 / 0 is"
                raise UserError(path, key, fault, "rule that out first, as in x > 0 AND y / x > 2")


def _parts(expression: pl.Expr) -> list[pl.Expr]:
    """An expression and all that it is made of."""
    return [expression, *(part for inner in expression.meta.pop() for part in _parts(inner))]


def _check_row_wise(path, key: str, when: str, features: dict, nouns: CaseNouns) -> None:
    """No function that looks at other rows, at the clock or at chance."""
    tokens = SQL_TOKEN.findall(when)
    if quoted := next((a for a, b in itertools.pairwise(tokens) if b == "(" and a[0] in '"`'), None):
        raise UserError(path, key, f"{quoted} is called as a function", "write functions without quotes")
    words = [token for token in tokens if token[0] not in "'\"`"]
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name = word.lower()
        if name in OF_THE_CLOCK and not (word in features and word in ("now", "today") and after != "("):
            remedy = (
                f'put the name in double quotes: "{word}"' if word in features else "compare a feature with a value"
            )
            raise UserError(path, key, f"{word} differs from day to day", remedy)
        if name in ("over", "select") and (word not in features or after == "("):
            fault = f"{word} looks at other {nouns.many}"
            raise UserError(path, key, fault, f"judge one {nouns.one} at a time")
        if after == "(" and (word[0].isalpha() or word[0] == "_") and name not in FUNCTIONS:
            fault = f"{word} is not a function of one {nouns.one}"
            raise UserError(
                path, key, fault, did_you_mean(name, sorted(FUNCTIONS), "use comparisons, AND, OR, NOT, IN")
            )


def _check_choices(path, key: str, when: str, features: dict) -> None:
    """A text that a choice feature is compared with must be one of its choices."""
    for name, literals in compared_literals(when, bare=True).items():
        feature = features.get(name)
        if feature is None or feature.kind != "choice" or feature.observed:  # a file need not hold every choice
            continue
        for literal in literals:
            if isinstance(literal, str) and literal not in feature.choices:
                remedy = did_you_mean(literal, feature.choices)
                raise UserError(path, key, f"{literal!r} is not a choice of {name}", remedy)


def compared_literals(when: str, bare: bool = False) -> dict[str, list]:
    """Texts and numbers that stand next to each name in `name = literal`, `literal < name`, `IN`, `BETWEEN`.

    bare: without texts that a function's value is compared with, as in UPPER(name) = 'A', or that are its arguments.
    A plain walk over the tokens: it serves error messages and critical points, not the evaluation.
    """
    tokens = SQL_TOKEN.findall(when)
    words = {"and", "or", "not", "in", "between", "is", "like", "ilike", "null", "true", "false", "case", "when", "end"}
    comparisons = {"=", "<>", "!=", "<", ">", "<=", ">="}
    found: dict[str, list] = {}
    name, pending, sign = None, [], 1
    matching = False  # after LIKE or ~, where the text is a pattern
    calls: list[bool] = []  # of the brackets around: is it a function's?
    changed = False  # is it a function's value that is compared?
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        quoted = token[0] in '"`' and len(token) > 1
        if token == "(":
            calls.append(bool(before) and before.lower() in FUNCTIONS - words)
        elif token == ")" and calls:
            calls.pop()
        elif token == "~":
            matching = True
        elif token[0] == "'" or token[0].isdigit() or (token[0] == "." and len(token) > 1):
            literal = token[1:-1].replace("''", "'") if token[0] == "'" else sign * float(token)
            is_text = isinstance(literal, str)
            if after in comparisons and before not in comparisons:
                pending.append(literal)
            elif name and not (is_text and (matching or (bare and (changed or any(calls))))):
                found.setdefault(name, []).append(literal)
        elif quoted or re.fullmatch(r"[^\W\d]\w*", token):
            if token.lower() in words:
                matching = token.lower() in ("like", "ilike") or (matching and token.lower() == "not")
            elif after != "(":
                name, matching, changed = (token[1:-1] if quoted else token), False, any(calls)
                kept = [x for x in pending if not (bare and changed and isinstance(x, str))]
                found.setdefault(name, []).extend(kept)
                pending = []
        sign = -1 if token == "-" else 1
    return found


def trigger_values(ruleset, feature) -> set[str]:
    """Choices of `feature` that trigger a hidden rule: it holds with them where it would not with another choice."""
    points, found = critical_points(ruleset, limit=20_000), set()
    for rule in ruleset.hidden_rules:
        if feature.name in rule.predicate.meta.root_names():
            holds = np.column_stack(
                [
                    points.with_columns(pl.lit(choice).alias(feature.name)).select(rule.predicate).to_series()
                    for choice in feature.choices
                ]
            )
            decisive = np.asarray((holds & ~holds.all(axis=1, keepdims=True)).any(axis=0))
            found |= {choice for i, choice in enumerate(feature.choices) if decisive[i]}
    return found


def critical_points(ruleset, limit: int = MAX_POINTS) -> pl.DataFrame:
    """Applications on and beside every threshold: the corners of every region that comparisons can cut out.

    Where they are too many, a fixed random sample of them.
    """
    literals: dict[str, list] = {}
    for rule in ruleset.rules:
        for name, values in compared_literals(rule.when).items():
            literals.setdefault(name, []).extend(values)
    numbers = [x for values in literals.values() for x in values if isinstance(x, float)]
    limit = min(limit, MAX_CELLS // len(ruleset.features))
    used = {name for rule in ruleset.rules for name in rule.predicate.meta.root_names()}
    columns = []
    for feature in ruleset.features:
        if feature.name not in used:
            columns.append(feature.values.head(1))
        elif feature.kind != "number":
            columns.append(feature.values)
        else:
            grid = feature.values.to_numpy()
            own = [x for x in literals.get(feature.name, []) if isinstance(x, float)]
            near = np.searchsorted(grid, own or numbers)[:, None] + np.arange(-2, 3)
            columns.append(feature.values.gather(np.unique(np.clip([0, len(grid) - 1, *near.flat], 0, len(grid) - 1))))
    n_points = np.prod([float(len(column)) for column in columns])
    if n_points <= limit:
        mesh = np.meshgrid(*(np.arange(len(column)) for column in columns), indexing="ij")
        return pl.DataFrame([column.gather(index.ravel()) for column, index in zip(columns, mesh, strict=True)])
    rng = np.random.default_rng(0)
    return pl.DataFrame([column.gather(rng.integers(len(column), size=limit)) for column in columns])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).strip().rstrip(":")[:120]
