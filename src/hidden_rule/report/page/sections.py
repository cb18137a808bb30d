"""The sections of the page below the first screen, in the order of a reader's questions.

Each has one sentence, its charts, its findings and its tables; what an experiment does not have is left out.
"""

from dataclasses import dataclass, field

from hidden_rule.experiment.results import Results
from hidden_rule.report.page.figures import Figure
from hidden_rule.report.text.suites import sentence_on

OTHER = "training"  # where findings go whose heading belongs to no section


@dataclass
class Section:
    """A section; `findings` are pairs of heading and sentences, `more` are tables behind a fold of their own."""

    id: str
    title: str
    charts: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()  # starts of the headings of its findings
    tables: tuple[str, ...] = ()  # names in the page's context
    special: bool = False  # it has parts of its own in the template
    sentence: str = ""
    findings: list[tuple[str, list[str]]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    shown: list[dict] = field(default_factory=list)
    more: list[dict] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.special or self.findings or self.figures or self.shown or self.more)


def layout() -> list[Section]:
    """All sections, empty."""
    return [
        Section("scorecard", "How did each condition do?", tables=("summary",), special=True),
        Section("comparisons", "Which method is best?", ("forest",), ("Significance", "References"), ("comparison",)),
        Section("mistakes-cost", "What do mistakes cost?", ("expected_cost",), ("Cost of mistakes",)),
        Section(
            "hidden-rules", "Was the hidden rule learned?", ("hidden_rule",), ("Policy", "Hidden rule"),
            ("hidden_rules",),
        ),
        Section("labels", "How many labels does it take?", ("labels",), ("Label efficiency",), ("supervision",)),
        Section("suites", "Does it generalize?", ("suites",), ("Generalization suites",), ("suites",)),
        Section("rules", "Which rules were found and learned?", special=True),
        Section("cost", "What does training cost?", ("cost",), ("Training cost",), ("costs",)),
        Section("errors", "Which decisions go wrong?", ("confusion", "calibration"), special=True),
        Section("settings", "Do other splits and free decoding agree?", ("accuracy",), ("Free decoding",)),
        Section(
            "training", "Why: what happened in training?", ("learning", "training", "collapse"),
            ("Reward signal", "Collapse", "Shortcuts", "Training curves"), ("collapse", "feasibility"),
        ),
        Section("side-effects", "What else did training change?", special=True),
        Section("limits", "What could change the result?", headings=("What could change", "Method and threats")),
        Section("setup", "How was it set up?", special=True),
        Section("provenance", "What was it made from?", special=True),
    ]  # fmt: skip


def sections(results: Results, context: dict, figures: list[Figure]) -> list[Section]:
    """The sections that have something to show; context: the page's tables by name, `answer`, `rules` and others."""
    by_name = {figure.name: figure for figure in figures}
    every = {section.id: section for section in layout()}
    for heading, sentences in findings_of(context["answer"]):
        owner = next((one for one in every.values() if heading.startswith(one.headings or ("\0",))), every[OTHER])
        owner.findings.append((heading, sentences))
    for section in every.values():
        section.figures = [by_name[name] for name in section.charts if name in by_name]
        section.shown = [one for name in section.tables if (one := context.get(name)) and one["rows"]]
    every["errors"].shown = [context["by_label"]]
    every["settings"].more = context["more"]
    if len(results.separate_rules) > 0:
        every["hidden-rules"].title = "Were the hidden rules learned?"
    if not results.rules_apart:
        every["hidden-rules"].title = "Was the policy learned?"
    for name in ("rules", "side_effects"):
        if not context[name]:
            del every[name.replace("_", "-")]
    for section in every.values():
        section.sentence = sentence_of(section, context)
    return [section for section in every.values() if not section.is_empty]


def findings_of(answer: dict) -> list[tuple[str, list[str]]]:
    """All headings with their sentences; those without one of their own have their section's title."""
    return [(heading or title, sentences) for title, parts in answer["sections"] for heading, sentences in parts]


def sentence_of(section: Section, context: dict) -> str:
    """The one sentence that a folded section shows."""
    own = {
        "scorecard": f"{capitalized(context['setting'])}; marks follow the tests of the sections below.",
        "comparisons": context["answer"]["headline"],
        "rules": first_of(context["rules"]),
        "errors": "Predicted by true decision, calibration, and example replies.",
        "settings": "Accuracy under the settings that the verdict does not rest on.",
        "side-effects": (context["side_effects"] or {}).get("sentences", [""])[0],
        "setup": "Policy, shared settings, training settings, base model, glossary.",
        "provenance": "Commit, model, hardware and packages.",
    }
    if section.id in own:
        return own[section.id]
    sentences = [sentence for _, of in section.findings for sentence in of]
    if section.id == "hidden-rules" and context["on_rules"]:
        return context["on_rules"]
    if not sentences and section.id == "cost":
        return "Time, tokens and memory of each training and evaluation."
    if section.id == "suites" and (on_subject := sentence_on(context["first"]["condition"], sentences)):
        return on_subject
    return sentences[0] if sentences else ""


def capitalized(text: str) -> str:
    """A text as the start of a sentence."""
    return text[:1].upper() + text[1:]


def first_of(rules: dict | None) -> str:
    """The first sentence of the section on rules."""
    parts = [part["sentences"] for part in (rules or {}).values() if part and part["sentences"]]
    return parts[0][0] if parts else "Rules in the decisions, and rules that conditions decide by."
