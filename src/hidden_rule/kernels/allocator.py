"""Keep freed memory in the process: each training step needs what the last one freed.

glibc gives blocks of more than some 100 KB back to the kernel at once and fetches them anew, zeroed page by page. A
training on a CPU frees and allocates the same large activations at every step, and spends up to a third of its time in
those page faults.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, from here on; False where the C library is not glibc.

    Peak memory stays nearly the same; only falling back from a peak takes until the process ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
