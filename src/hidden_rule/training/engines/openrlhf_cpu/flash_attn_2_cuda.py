"""In place of flash-attn's compiled kernels, where there is no GPU: OpenRLHF imports flash-attn's Python functions
(padding, unpadding), whose package imports this module. Whatever would compute raises."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"flash_attn_2_cuda.{name}: there is no CUDA kernel on this machine")
