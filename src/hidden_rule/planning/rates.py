"""How long pieces of work take: measured on this machine, or derived from operations for one that is not here."""

import json
from dataclasses import asdict, dataclass, field

from hidden_rule.core.errors import UserError


@dataclass(frozen=True)
class Span:
    """A number with a range around it: the lowest and the highest that is expected."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def within(cls, value: float, share: float) -> "Span":
        """A value, and a share of it to either side."""
        return cls(value, value * (1 - share), value * (1 + share))

    @classmethod
    def factor(cls, value: float, factor: float) -> "Span":
        """A value, and from a `factor`-th of it to as many times as much."""
        return cls(value, value / factor, value * factor)

    def __add__(self, other: "Span") -> "Span":
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, n: float) -> "Span":
        return Span(self.value * n, self.low * n, self.high * n)

    def less(self, other: "Span") -> "Span":
        """What is left of this without a part of it that was measured apart, a tenth at least."""
        ends = ((self.value, other.value), (self.low, other.low), (self.high, other.high))
        return Span(*(max(whole - part, whole / 10) for whole, part in ends))

    def at_most(self, limit: float) -> "Span":
        return Span(min(self.value, limit), min(self.low, limit), min(self.high, limit))


@dataclass(frozen=True)
class Rates:
    """Seconds of each piece of work.

    load: until a job's libraries, model and data are loaded; write: of a training's files; step, validated: an
    optimizer step, and a row of the validation split, by the kind's name; structured, free: a row that is scored, and
    one to which a reply is generated, by the prompt; origin: in words; kept: a training's row with each valid reply, in
    the layers below the adapter's.
    """

    load: Span
    write: Span
    step: dict[str, Span]
    validated: dict[str, Span]
    structured: dict[str, Span]
    free: dict[str, Span]
    origin: str
    measured: bool = True
    notes: tuple[str, ...] = field(default_factory=tuple)
    kept: Span = field(default_factory=Span)

    def as_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict, path) -> "Rates":
        """What `as_json` gave; raises UserError for anything else."""
        try:
            tables = {
                name: {key: Span(**span) for key, span in values[name].items()}
                for name in ("step", "validated", "structured", "free")
            }
            load, write = Span(**values["load"]), Span(**values["write"])
            origin, notes = str(values["origin"]), tuple(map(str, values["notes"]))
            measured, kept = bool(values["measured"]), Span(**values["kept"])
            return cls(load, write, **tables, origin=origin, measured=measured, notes=notes, kept=kept)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(path, None, f"is no measurement ({error!r})", "delete it and run make preflight") from error


def prompt_key(prompt) -> str:
    """The name of a condition's prompt among rates: as JSON."""
    return json.dumps(prompt, sort_keys=True)
