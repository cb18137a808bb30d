"""Python runs this file at the start of each process that has its folder on PYTHONPATH, as all of OpenRLHF's have.

It imports nothing: a module that is patched is patched when it is imported.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

PATCHES = "hidden_rule.training.engines.openrlhf_patches"


class AfterImport(MetaPathFinder):
    """Calls `openrlhf_patches.apply` with each module that has patches, right after its import."""

    TOPS = ("openrlhf", "vllm", "deepspeed")

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in self.TOPS:
            return None
        patches = import_module(PATCHES)
        if not patches.patches_of(name):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            patches.apply(name, module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, AfterImport())
