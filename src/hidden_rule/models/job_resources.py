"""Memory and time that a job which loads the model asks of a scheduler, from the size of the model's weights.

Imports nothing heavy: the rules ask at every look at the graph of jobs, and again right before a job is submitted, when
the model's files are known.

Where the factor of memory comes from (a random model of 2.5 GB in bfloat16, loaded on a CPU): in bfloat16 its tensors
are the pages of its files, once the weights; converted to float32 they are twice as much beside those pages, which the
kernel can drop, but which a cluster may count. On a GPU tensors go there one by one, and the pages alone remain.
"""

import math
import re
from pathlib import Path

from hidden_rule.models.files import FETCHED, RECORD, known_record

LEAST_MB = 6000  # enough for the embedded model, with activations and validation, on a CPU
LIBRARIES_MB = 5000  # torch, CUDA's context and its libraries, the data
COPIES = 2  # of the weights: the pages of their files, and as much again, the tensors in float32 without those pages
BYTES_PER_STEP = 10 * 10**9  # weights that make a job ask for as much time once more
ENGINE_FACTOR = 3  # verl and OpenRLHF hold the model in several processes: actor, reference, rollouts
NAMED_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z0-9])")
UNITS = {"b": 10**9, "m": 10**6}


def named_parameters(name: str) -> int:
    """Parameters that a model's name states, as in Qwen3-14B or Mixtral-8x7B; 0 where it states none.

    Of several sizes in a name (30B-A3B: those active per token) the largest.
    """
    found = NAMED_SIZE.findall(name.rpartition("/")[2].replace("_", "-"))
    return max((int(n or 1) * round(float(size) * UNITS[unit.lower()]) for n, size, unit in found), default=0)


def weights_bytes(model: dict, folder) -> int:
    """Bytes of a model's weights as its files hold them.

    `model`: the configuration's; `folder`: results/models/{slug}, with what jobs wrote down about it.
    From what is known first: the record of its preparation; the list of what was fetched; a local folder's files; the
    size that its name states, at two bytes a parameter. 0 where nothing is known.
    """
    folder = Path(folder)
    record = known_record(folder / RECORD)
    if all(record.get(key) == model[key] for key in ("source", "id", "revision")):
        return _total(record.get("files"))
    fetched = known_record(folder / FETCHED)
    if all(fetched.get(key) == model[key] for key in ("id", "revision")) and (known := _total(fetched.get("files"))):
        return known
    if model["source"] == "path":
        try:
            return sum(path.stat().st_size for path in Path(model["id"]).glob("*.safetensors"))
        except OSError:
            return 0
    return 2 * named_parameters(model["id"])


def _total(files) -> int:
    """Bytes of the safetensors files of a record."""
    if not isinstance(files, dict):
        return 0
    entries = [entry for name, entry in files.items() if name.endswith(".safetensors") and isinstance(entry, dict)]
    return sum(entry.get("bytes", 0) for entry in entries)


def memory_mb(n_bytes: int, processes: int = 1, by_engine: bool = False) -> int:
    """Main memory in MB for `processes` that each load weights of `n_bytes`: 5,000 + 2 x weights, 6,000 at least.

    A process of an engine other than TRL gets three times as much.
    """
    each = max(LEAST_MB, LIBRARIES_MB + math.ceil(COPIES * n_bytes / 10**6))
    return processes * each * (ENGINE_FACTOR if by_engine else 1)


def runtime_minutes(n_bytes: int, minutes: int, limit: float = 0) -> int:
    """Minutes for a job that gets `minutes` with a small model: as many again for each full 10 GB of weights.

    `limit`: minutes that the training itself may take (`max_minutes`), which come on top.
    """
    return minutes * (1 + n_bytes // BYTES_PER_STEP) + math.ceil(limit)
