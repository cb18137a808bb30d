"""What a script's result depends on in code, derived from imports: the script and the modules that it reaches.

Snakemake's own trigger sees the time of a script's file and no module that the script imports. The hash here is of the
syntax trees of all of them, so that a comment, a docstring or formatting changes nothing, and an expression does.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp

from hidden_rule.core.files import file_sha256, json_sha256
from hidden_rule.core.schemas import load_schema

PACKAGE = "hidden_rule"
FOLDER = Path(__file__).resolve().parents[1]  # of the package

# An edit of these modules cannot change a result, so that it reruns nothing. Neither can what they alone import.
NO_INFLUENCE = {
    "hidden_rule.core.errors": "the wording of errors, after which there is no result",
    "hidden_rule.core.logs": "where output and errors are printed",
    "hidden_rule.core.manifest": "checks results that exist",
    "hidden_rule.core.paths": "where the checkout lies",
    "hidden_rule.core.sources": "this module",
    "hidden_rule.core.versions": "refuses versions of libraries that were not tested",
    "hidden_rule.models.devices": "which of the machine's GPUs a job gets",
}


@functools.cache
def code_hash(script: Path) -> str:
    """SHA-256, in hexadecimal, of the syntax trees of a script and of all modules that it depends on.

    What a module compiles lies in a folder beside it, `<module>_code`, and counts byte by byte.
    """
    found = dependencies(script)
    compiled = {str(path.relative_to(FOLDER)): file_sha256(path) for name in found for path in _compiled(name)}
    modules = {name: _tree_sha256(_path(name)) for name in found}
    return json_sha256({"script": _tree_sha256(script), "modules": modules, "compiled": compiled})


def dependencies(script: Path) -> list[str]:
    """The package's modules that `script` imports, directly or not, in functions too, without `NO_INFLUENCE`."""
    graph, found = _graph(), set()
    waiting = list(_imported_by(script, graph.modules))
    while waiting:
        name = waiting.pop()
        if name not in found and name not in NO_INFLUENCE:
            found.add(name)
            waiting += graph.find_modules_directly_imported_by(name)
            if "." in name:
                waiting.append(name.rpartition(".")[0])  # importing a module runs the packages that it lies in
    return sorted(found)


def schema_hash(name: str) -> str:
    """SHA-256, in hexadecimal, of a schema without its descriptions: it fills in defaults, which decide results."""
    return json_sha256(_without_descriptions(load_schema(name)))


def code_tree(source: str) -> bytes:
    """A syntax tree as bytes, without positions, comments, formatting and docstrings: equal for equal code."""
    parts: list[str] = []
    _write(ast.parse(source), parts)
    return "\0".join(parts).encode()


@functools.cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)  # some 30 ms; a cache of grimp's would go by files' times


def _imported_by(script: Path, modules: set[str]) -> Iterator[str]:
    """The modules of the package that a script's own import statements name, wherever they stand."""
    for node in ast.walk(ast.parse(script.read_bytes())):
        if isinstance(node, ast.Import):
            names: Iterable[str] = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            names = {node.module, *submodules}
        else:
            continue
        yield from (name for name in names if name in modules)


@functools.cache
def _tree_sha256(path: Path) -> str:
    return hashlib.sha256(code_tree(path.read_text(encoding="utf-8"))).hexdigest()


def _path(module: str) -> Path:
    """The file of one of the package's modules."""
    path = FOLDER.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _compiled(module: str) -> list[Path]:
    """The files that one of the package's modules compiles."""
    path = _path(module)
    return sorted(path.with_name(f"{path.stem}_code").glob("*"))


def _write(node, parts: list[str]) -> None:
    """Append a tree's node types and constants to `parts`, in order, with brackets around lists."""
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        for field in node._fields:
            _write(getattr(node, field, None), parts)
    elif isinstance(node, list):
        parts.append("[")
        for child in node:
            if not _is_text(child):
                _write(child, parts)
        parts.append("]")
    else:
        parts.append(repr(node))


def _without_descriptions(schema):
    if isinstance(schema, list):
        return [_without_descriptions(child) for child in schema]
    if not isinstance(schema, dict):
        return schema
    described = isinstance(schema.get("description"), str)  # not a property of that name
    return {key: _without_descriptions(schema[key]) for key in schema if key != "description" or not described}


def _is_text(node) -> bool:
    """Whether a statement is only a string: a docstring, or a comment in quotes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
