"""The versions of libraries whose internals are used, and one line where another version is installed.

What is used of a library's internals stands in one module each: `kernels/compat_torch.py`,
`kernels/compat_transformers.py`, `kernels/compat_peft.py`, `kernels/compat_trl.py` and, for its trainers,
`training/compat_trl.py`; of Snakemake's in `core/compat_snakemake.py`. Each calls `check_version` before it touches
them. To move to another version: read that module, run `tests/core`, `tests/kernels`, `tests/models`, `tests/training`
and `tests/workflow`, and widen the range here.
"""

import importlib.metadata
import re

from hidden_rule.core.errors import UserError

TESTED = {  # library: the first version that was tested, and the first that was not
    "gguf": ("0.19", "0.20"),
    "peft": ("0.21", "0.22"),
    "snakemake": ("9.27", "9.28"),
    "torch": ("2.11", "2.14"),  # 2.11 on a GPU, 2.13 on CPUs
    "transformers": ("5.23", "5.24"),
    "trl": ("1.16", "1.17"),
}


def parts(version: str) -> tuple[int, ...]:
    """Major and minor number of a version, `2.13.0+cpu` as (2, 13)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def check_version(library: str) -> None:
    """Raise UserError if the installed version of a library of `TESTED` is not among those tested, or none is."""
    first, beyond = TESTED[library]
    remedy = "run make setup"
    try:
        installed = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("envs/requirements.txt", library, "is not installed", remedy) from error
    if not parts(first) <= parts(installed) < parts(beyond):
        fault = f"version {installed} is installed; its internals are used as versions {first} to below {beyond} have"
        raise UserError("envs/requirements.txt", library, f"{fault} them", remedy)


def check_versions() -> None:
    """`check_version` for every library of `TESTED`; imports none of them."""
    for library in TESTED:
        check_version(library)
