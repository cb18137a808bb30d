"""Whether prompts and their replies fit a model's context: what is longer is computed all the same, and wrongly."""

from dataclasses import dataclass

from hidden_rule.core.errors import SettingError, UserError

# of a configuration: positions that a network was trained for or has embeddings of, by the names that families use
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True)
class Blame:
    """What an error names where prompts are too long, and what would help."""

    key: str
    remedy: str
    file: str | None = None  # None: the one in which the user set `key`

    @classmethod
    def ruleset(cls, path) -> "Blame":
        """The ruleset, whose texts make the prompts."""
        return cls("prompt", "shorten the prompt's texts, or take a model with a longer context", str(path))

    def error(self, fault: str) -> UserError:
        if self.file is None:
            return SettingError(self.key, fault, self.remedy)
        return UserError(self.file, self.key, fault, self.remedy)


def context_length(config) -> int | None:
    """Positions that a model's configuration allows, or None of one that has no such limit."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = (getattr(text, name, None) for name in LENGTHS)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)


def check_context(config, prompts: list[list[int]], n_reply: int, blame: Blame) -> None:
    """Raise UserError if the longest of `prompts`, with a reply of `n_reply` tokens, exceeds a model's context."""
    limit = context_length(config)
    if limit is None or not prompts:
        return
    longest = max(map(len, prompts))
    if longest + n_reply > limit:
        raise blame.error(f"prompt and reply of {longest + n_reply:,} tokens are more than the model's {limit:,}")


def check_replies(replies: dict[str, int], limits: dict[str, int]) -> None:
    """Raise UserError if a label's reply, of so many tokens with the turn's end, is longer than a setting allows."""
    label = max(replies, key=lambda name: replies[name])
    for key, n in limits.items():
        if replies[label] > n:
            fault = f"{n} tokens cut the reply for {label}, which has {replies[label]} with the end of the turn"
            raise SettingError(key, fault, f"give at least {replies[label]}")
