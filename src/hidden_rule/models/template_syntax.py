"""What a chat template reads, from its syntax alone."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.sandbox import ImmutableSandboxedEnvironment

CLOCK = "strftime_now"
GIVEN = {  # names that a template finds whatever the user passes to it
    *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", CLOCK, "raise_exception"),
    *("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "range", "dict", "lipsum", "cycler", "joiner", "namespace"),
}


class TemplateFaultError(Exception):
    """Why a chat template cannot be used, in a line."""


class Generation(Extension):
    """The tag `generation`, with which templates mark an assistant's text; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        parser.stream.skip()
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def one_line(error: Exception) -> str:
    """What an error says, shortened to a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


@dataclass(frozen=True)
class Syntax:
    """The names that a template looks up outside itself, and whether it draws at random."""

    names: frozenset[str]
    keys: tuple[str, ...]  # those of them that a user may pass
    draws: bool

    @property
    def reads_clock(self) -> bool:
        return CLOCK in self.names


@functools.lru_cache(maxsize=32)
def read_syntax(template: str) -> Syntax:
    """What a template reads; raises TemplateFaultError if its syntax is wrong."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, Generation]
    )
    try:
        tree = environment.parse(template)
        names = meta.find_undeclared_variables(tree)
        keys = sorted(names - GIVEN - set_first(tree))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateFaultError(f"has a syntax error in line {error.lineno}: {one_line(error)}") from error
    except Exception as error:  # constants are computed here already: any error, as when it is rendered
        raise TemplateFaultError(f"cannot be read ({one_line(error)})") from error
    used = {found.name for found in tree.find_all(nodes.Name)} | {found.name for found in tree.find_all(nodes.Filter)}
    return Syntax(frozenset(names), tuple(keys), bool(used & {"lipsum", "random"}))


def set_first(tree: nodes.Template) -> set[str]:
    """Names that a template sets before it looks at them: its own variables, set on some ways through it alone."""
    first: dict[str, str] = {}
    for name in in_order(tree):
        first.setdefault(name.name, name.ctx)
    return {name for name, use in first.items() if use == "store"}


def in_order(node: nodes.Node) -> Iterator[nodes.Name]:
    """The names in a tree as they are evaluated, what is assigned before what it is assigned to; no macro's own."""
    if isinstance(node, nodes.Name):
        yield node
    children = list(node.iter_child_nodes())
    if isinstance(node, nodes.Assign | nodes.AssignBlock):
        children = [*(child for child in children if child is not node.target), node.target]
    elif isinstance(node, nodes.For):
        children = [node.iter, *(child for child in children if child is not node.iter)]
    own = {argument.name for argument in node.args} if isinstance(node, nodes.Macro | nodes.CallBlock) else set()
    for child in children:
        yield from (name for name in in_order(child) if name.name not in own)
