"""What is used of TRL's kernels; written for 1.16. Its trainers' internals stand in `training/compat_trl.py`.

- `ChunkedLogProbFunction`: log-probabilities and entropies over a vocabulary of which a tile is held at a time. No part
  of TRL's documented interface. To be removed when PyTorch or TRL offers the like as a function.
"""

from hidden_rule.core.versions import check_version

check_version("trl")

from trl.kernels import ChunkedLogProbFunction  # noqa: E402 - another version may not have it

__all__ = ["ChunkedLogProbFunction"]
