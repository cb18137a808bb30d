"""What a case is called on pages, in charts and in messages: an application, unless a ruleset says otherwise."""

from dataclasses import dataclass

SOUNDS_LIKE_YOU = ("uni", "use", "usu", "eu", "one", "once")  # a unit
SILENT_H = ("hour", "hono", "heir", "honest")  # an hour


@dataclass(frozen=True)
class CaseNouns:
    """One case and several: a claim, claims."""

    one: str = "application"
    many: str = "applications"

    @property
    def a_case(self) -> str:
        """One case with its article: `a claim`, `an application`."""
        word = self.one.lower()
        is_vowel = word.startswith(("a", "e", "i", "o", "u", *SILENT_H)) and not word.startswith(SOUNDS_LIKE_YOU)
        return f"{'an' if is_vowel else 'a'} {self.one}"

    def counted(self, n: int) -> str:
        """`1 claim`, `1,000 claims`."""
        return f"{n:,} {self.one if n == 1 else self.many}"


APPLICATION = CaseNouns()
CASE = CaseNouns("case", "cases")  # of a file of past decisions whose ruleset has no nouns of its own


def nouns_of(document: dict, otherwise: CaseNouns) -> CaseNouns:
    """What a ruleset's document calls a case."""
    return CaseNouns(**document["case"]) if "case" in document else otherwise
