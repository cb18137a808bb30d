"""The machine that an experiment is planned for: this one, or one that is described in words (MACHINE)."""

import json
import os
import platform
import re
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import existing_parent, free_bytes
from hidden_rule.core.usage import n_cores
from hidden_rule.core.yaml_files import parse_yaml, read_text
from hidden_rule.models.devices import narrowed

# Dense bfloat16 TFLOP/s of the makers' data sheets (NVIDIA: A10, A100, L4, L40S, H100 SXM, H200, B200; V100 in float16)
DATA_SHEET = {
    **{"V100": 125.0, "A10G": 70.0, "A10": 125.0, "A100": 312.0, "A6000": 155.0, "L4": 121.0, "L40S": 362.0},
    **{"RTX 4090": 165.0, "H100": 989.0, "H200": 989.0, "B200": 2250.0},
}
NO_BFLOAT16 = ("V100", "T4", "P100", "RTX 20", "GTX")
SAMPLE = 32 * 2**20  # bytes that are written to measure the disk


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, memory in GB (10**9 bytes), bfloat16 TFLOP/s by its data sheet if known, driver."""

    name: str
    gb: float
    tflops: float | None = None
    driver: str = ""
    bfloat16: bool | None = None


@dataclass(frozen=True)
class Machine:
    """What a plan is for; sizes in bytes, None where it is not known. `real`: this machine, else a described one."""

    gpus: tuple[Gpu, ...]
    memory: int | None
    available: int | None  # of the memory, now
    cores: int
    free_disk: int | None  # where the results lie
    cpu_bfloat16: bool
    real: bool = True

    @property
    def computes_bfloat16(self) -> bool:
        """Whether its device computes in bfloat16; of an unknown GPU it is taken to."""
        return self.gpus[0].bfloat16 is not False if self.gpus else self.cpu_bfloat16

    @property
    def words(self) -> str:
        """`1 × NVIDIA A100 (80 GB)`, or the CPU's cores."""
        if not self.gpus:
            return f"CPU, {self.cores} core{'s' * (self.cores != 1)}"
        first = self.gpus[0]
        return f"{len(self.gpus)} × {first.name} ({first.gb:.0f} GB), {self.cores} CPU cores"


def peak_tflops(name: str) -> float | None:
    """Dense bfloat16 TFLOP/s of a GPU by its name's model, or None for an unknown one."""
    found = [known for known in DATA_SHEET if re.search(rf"(?<![A-Za-z0-9]){re.escape(known)}(?![A-Za-z0-9])", name)]
    return DATA_SHEET[max(found, key=len)] if found else None


def this_machine(results) -> Machine:
    """The machine that this process runs on; `results`: the folder of results. Imports no torch."""
    memory = psutil.virtual_memory()
    return Machine(
        gpus=found_gpus(),
        memory=memory_limit(memory.total),
        available=memory.available,
        cores=n_cores(),
        free_disk=free_bytes(results),
        cpu_bfloat16=cpu_bfloat16(),
    )


def memory_limit(total: int, groups=Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may use: the machine's, or less where its control group or job says so."""
    limits = [total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((groups / name).read_text()))
        except (OSError, ValueError):
            continue
    if (of_job := os.environ.get("SLURM_MEM_PER_NODE", "")).isdigit():
        limits.append(int(of_job) * 2**20)
    return min(limit for limit in limits if limit > 0)


def cpu_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 numbers, as Linux says."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return bool(re.search(r"^flags\s*:.*\b(avx512_bf16|amx_tile)\b", flags, re.MULTILINE))


def found_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process may use."""
    if not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=uuid,name,memory.total,driver_version,compute_cap"]
    try:
        done = subprocess.run(
            [*query, "--format=csv,noheader,nounits"], check=True, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.strip().splitlines()]
    known = {}
    for uid, name, mib, driver, capability in (cells for cells in rows if len(cells) == 5):
        if mib.isdecimal():  # else it does not answer
            native = float(capability) >= 8 if re.fullmatch(r"\d+\.\d+", capability) else None
            known[uid] = Gpu(name, int(mib) * 2**20 / 1e9, peak_tflops(name), driver, native)
    return tuple(known[uid] for uid in narrowed([cells[0] for cells in rows]) if uid in known)


def write_speed(folder) -> float:
    """Bytes a second that a folder's disk takes, of one file that is written whole, forced to the disk and deleted.

    Raises UserError where the folder cannot be written to.
    """
    path = existing_parent(folder) / f".write-speed-{uuid.uuid4().hex}"
    block, began = os.urandom(2**20), time.perf_counter()
    try:
        with open(path, "xb") as file:
            for _ in range(SAMPLE // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return SAMPLE / (time.perf_counter() - began)
    except OSError as error:
        raise UserError(
            path.parent, None, f"cannot be written to ({error.strerror})", "results must lie where they can be written"
        ) from error
    finally:
        path.unlink(missing_ok=True)


# --- a machine that is not here ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """What MACHINE may say; the defaults are those of a common server."""

    gpus: int = 1
    gpu: str = "GPU"  # its name, by which its speed may be known
    gpu_gb: float = 0.0
    gpu_tflops: float = 0.0  # dense bfloat16, of the data sheet; 0: by the name
    memory_gb: float = 0.0  # 0: not known
    disk_gb: float = 0.0
    cores: int = 8


MOST = 10_000  # GPUs, cores
EXAMPLE = 'MACHINE=\'{"gpus": 1, "gpu": "H100", "gpu_gb": 80}\''


def described_machine(text: str) -> Machine:
    """The machine that MACHINE describes, as JSON or YAML, or in a file of that name; raises UserError otherwise."""
    place = "MACHINE"
    if not text.lstrip().startswith("{"):
        place, text = text, read_text(text)
    values = parse_yaml(text, place)
    known = {field.name: field.type for field in fields(Described)}
    if not isinstance(values, dict) or not values:
        raise UserError(place, None, "describes no machine", f"write keys and values, as in {EXAMPLE}")
    for key, value in values.items():
        if key not in known:
            raise UserError(place, key, "unknown key", f"the keys are {', '.join(known)}")
        check_value(place, key, value, known[key])
    of = Described(**values)
    tflops = of.gpu_tflops or peak_tflops(of.gpu)
    if of.gpus and not of.gpu_gb:
        raise UserError(place, "gpu_gb", "is missing: the memory of one GPU in GB", f"as in {EXAMPLE}")
    if of.gpus and not tflops:
        names = ", ".join(DATA_SHEET)
        fault = f"the speed of {json.dumps(of.gpu)} is not known"
        raise UserError(place, "gpu_tflops", fault, f"give its dense bfloat16 TFLOP/s, or a gpu of {names}")
    old = any(name in of.gpu for name in NO_BFLOAT16)
    memory = int(of.memory_gb * 1e9) or None
    return Machine(
        gpus=tuple(Gpu(of.gpu, of.gpu_gb, tflops, bfloat16=not old) for _ in range(of.gpus)),
        memory=memory,
        available=memory,
        cores=of.cores,
        free_disk=int(of.disk_gb * 1e9) or None,
        cpu_bfloat16=False,
        real=False,
    )


def check_value(place: str, key: str, value, kind) -> None:
    """Raise UserError for a value of MACHINE that is not of its key's kind, or out of range."""
    if kind is str:
        fine = isinstance(value, str) and 0 < len(value) <= 80 and value.isprintable()
        wanted = "a name"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
        whole = kind is not int or (number and float(value).is_integer())
        fine = number and whole and (key == "cores") <= value <= (MOST if kind is int else 1e6)
        wanted = "a whole number" if kind is int else "a number of 0 or more"
    if not fine:
        raise UserError(place, key, f"is {json.dumps(value, default=str)[:60]}", f"give {wanted}")


def system_words() -> str:
    """`Linux 6.1 x86_64, Python 3.11.4`."""
    release = ".".join(platform.release().split(".")[:2])
    return f"{platform.system()} {release} {platform.machine()}, Python {platform.python_version()}"
