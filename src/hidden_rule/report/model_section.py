"""What the inspection of the base model found, in words for the report."""

from hidden_rule.report.tables import as_text
from hidden_rule.report.text.phrases import percent

NOT_SHOWN = ("kernels",)  # read by jobs; the record has them


def inspection_of(provenance: dict | None) -> dict:
    """The inspection of the base model that a run recorded; empty without one."""
    return ((provenance or {}).get("model") or {}).get("inspection") or {}


def model_section(provenance: dict) -> dict:
    """`facts`, pairs of name and text, and `warnings`, a sentence each; both empty without a record."""
    found = inspection_of(provenance)
    facts = [(name, fact_text(name, fact)) for name, fact in found.get("facts", {}).items() if name not in NOT_SHOWN]
    return {"facts": facts, "warnings": found.get("warnings", [])}


def fact_text(name: str, fact) -> str:
    """A fact on one line: yes and no, shares as percentages, large numbers with commas, line breaks visible."""
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if name.startswith("share") and isinstance(fact, float):
        return percent(fact)
    if isinstance(fact, int):
        return f"{fact:,}"
    return as_text(fact).replace("\n", "\\n") or "none"
