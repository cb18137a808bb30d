"""What of a sampled reply is read: its text up to the token that ends it, as evaluation reads one.

Imported in the environment of OpenRLHF: nothing but the standard library may be imported here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

ROLLOUT = "HIDDEN_RULE_ROLLOUT"  # environment: the file of a `Replies`


@dataclass(frozen=True)
class Replies:
    """How replies are drawn and read; as JSON in a file."""

    seed: int  # the job's
    stops: list[int]  # tokens that end a reply
    closing: str  # what the chat template writes before them, without blanks around it

    def as_json(self) -> dict:
        return asdict(self)

    def read(self, ids: list[int], decode: Callable) -> tuple[str, int]:
        """As `models/tokens.py` cut_reply: a reply's text and its number of tokens, that which ends it included."""
        end = next((i for i, token in enumerate(ids) if token in self.stops), len(ids))
        text = decode(ids[:end], skip_special_tokens=True)
        return (text.rstrip().removesuffix(self.closing) if self.closing else text), min(end + 1, len(ids))


def sample_seed(seed: int, place: int, sample: int) -> int:
    """The seed of a reply, below 2^31: a hash of the job's seed, the prompt's place and the number of the sample."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{place}/{sample}".encode()).digest()[:4], "big") >> 1
