"""What an inspection of one side of a model found; what it must refuse it raises as a UserError."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Inspected:
    """Facts for the model's manifest and the report, and warnings for the log, the manifest and the report."""

    facts: dict = field(default_factory=dict)  # JSON values by name, in plain words
    warnings: tuple[str, ...] = ()  # a sentence each
