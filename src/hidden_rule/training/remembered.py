"""A model's modules and weights, looked up once for a training.

transformers goes through all of a model's modules three times a step: to put them in training mode, to clip gradients,
and to clear them.
"""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def remembered_parts(model) -> Iterator[None]:
    """Let `model.train` and `model.parameters` go through a list, as long as no module or weight comes or goes."""
    modules, weights = list(model.modules()), list(model.parameters())
    own = type(model)

    def train(mode: bool = True):
        return model if all(module.training is mode for module in modules) else own.train(model, mode)

    def parameters(recurse: bool = True):
        return iter(weights) if recurse else own.parameters(model, recurse)

    model.train, model.parameters = train, parameters
    try:
        yield
    finally:
        del model.train, model.parameters
