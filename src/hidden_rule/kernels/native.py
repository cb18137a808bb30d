"""Element-wise parts of a layer in C, compiled on the machine that runs them.

PyTorch makes a pass over memory for each operator, and its bfloat16 ones use half of a register of AVX-512: on a CPU
norms, gates, rotations and softmax take as long as a third of the matrix products. `native_code/layers.c` makes one
pass; for processors that multiply bfloat16 numbers `native_code/attention.h` makes none for attention's scores. It is
compiled once a machine, at first use, by the C compiler that $CC names or `cc`, into the user's cache folder. Where
that fails PyTorch computes the same, and the log says so.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "native_code"
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SUFFIXES = {torch.float32: "float", torch.bfloat16: "bfloat16"}


def cache_folder() -> Path:
    """Where compiled code is kept: `hidden-rule` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hidden-rule"


def processor() -> str:
    """What code compiled for this machine depends on."""
    path = Path("/proc/cpuinfo")
    known = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else platform.processor()
    return "\n".join(sorted({line for line in known.splitlines() if line.startswith(("model name", "flags"))}))


def compile_library(compiler: str, folder: Path) -> Path:
    """The library in `folder`, made there if it is missing; raises OSError or CalledProcessError if that fails."""
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    texts = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".h")]
    key = hashlib.sha256("\n".join([*texts, *FLAGS, version, processor()]).encode()).hexdigest()[:16]
    library = folder / f"layers-{key}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            command = [compiler, *FLAGS, str(SOURCES / "layers.c"), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True)
            made.replace(library)  # whole, whoever else makes it now
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None where they cannot be compiled."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        log.info("no C compiler: layers are computed by PyTorch alone, which takes longer")
        return None
    try:
        return ctypes.CDLL(str(compile_library(compiler, cache_folder())))
    except (OSError, subprocess.CalledProcessError) as error:
        log.info("layers are computed by PyTorch alone, which takes longer: %s", error)
        return None


def takes(*tensors: torch.Tensor) -> bool:
    """Whether the compiled functions take these tensors: on a CPU, all of one type that they know."""
    kinds = {(tensor.device.type, tensor.dtype) for tensor in tensors}
    return len(kinds) == 1 and kinds < {("cpu", dtype) for dtype in SUFFIXES} and library() is not None


@functools.cache
def has(name: str, dtype: torch.dtype) -> bool:
    """Whether this machine's compiler made a function of this name for tensors of a type."""
    return dtype in SUFFIXES and library() is not None and hasattr(library(), f"{name}_{SUFFIXES[dtype]}")


@functools.cache
def function(name: str, dtype: torch.dtype):
    """The compiled function of this name for tensors of a type."""
    found = getattr(library(), f"{name}_{SUFFIXES[dtype]}")
    found.restype = None
    return found


def call(name: str, *arguments) -> None:
    """Call a function of `native_code/layers.c` for the type of the first argument; tensors must be contiguous."""
    function(name, arguments[0].dtype)(*map(as_c, arguments))


def as_c(value):
    """A tensor as its address, an integer as int64, a float as float32."""
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)
