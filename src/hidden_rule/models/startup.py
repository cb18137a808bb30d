"""Import the heavy libraries with the garbage collector off: imported first by a script, they load in half the time.

What an import makes stays until the process ends. Collections in its midst find nothing, and `freeze` keeps later ones,
and the one at the end, from looking through it again.
"""

import gc

gc.disable()
try:
    from peft import PeftModel  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: F401
    from trl.kernels import ChunkedLogProbFunction  # noqa: F401
finally:
    gc.freeze()
    gc.enable()
