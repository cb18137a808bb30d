"""The folder that `make export` writes, and how it is read: `results/{experiment}/export/{condition}-seed{seed}/`.

| path | holds |
| --- | --- |
| `export.json` | what serving needs; its keys are those of `Exported` |
| `parity.json` | what each artifact answered, loaded afresh by plain libraries, against the evaluated predictions |
| `README.md` | the model card; a copy with front matter for the Hub lies in each artifact's folder |
| `model.json` | the base as a manifest, for `BaseModel` and `load_policy`; its folder is relative to the file |
| `ruleset.yaml` | features, labels and prompt templates as `load_ruleset` reads them; no hidden rule is in it |
| `adapter/` | plain PEFT: float32 weights, `adapter_config.json`, tokenizer with the chat template, card |
| `base/` | the base's weights, tokenizer and configuration, where the base is no model of the Hub |
| `merged/` | a plain transformers folder: base plus adapter in the base's type, tokenizer, card |
| `gguf/model.gguf` | the merged weights in bfloat16 for llama.cpp, where they were asked for |

`adapter_config.json` names `./base` (found from within the export's folder, where the card's six lines are run), or a
Hub model's id with its revision. To ask the evaluated policy:

    exported = read_export(folder)
    base = BaseModel(exported.manifest, exported.dtype, exported.chat_template_kwargs)
    policy = load_policy(base, device, exported.adapter)
    trie = label_trie(load_tokenizer(base.manifest, base.chat_template_kwargs), exported.labels)
    prompts = render_prompts(load_ruleset(exported.ruleset), frame)

A folder is written whole or not at all, and only where parity held.
"""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, read_json

RECORD, PARITY, CARD, BASE_RECORD, RULESET = "export.json", "parity.json", "README.md", "model.json", "ruleset.yaml"
ADAPTER, BASE, MERGED, GGUF = "adapter", "base", "merged", "gguf"
GGUF_FILE = "model.gguf"
FORMAT = 1
AGAIN = "run make export again"


@dataclass(frozen=True)
class Exported:
    """What `export.json` holds."""

    folder: Path
    experiment: str
    condition: str  # the config's name of it
    display_name: str
    seed: int
    method: str
    start_from: str | None
    labels: tuple[str, ...]  # in the ruleset's order, that of probabilities
    replies: dict[str, str]  # by label the valid reply, as text
    reply_tokens: dict[str, list[int]]  # and as token ids, with the token that ends the turn
    longest_reply: int  # tokens
    context_length: int | None  # tokens of prompt and reply; None: no limit
    decision: str  # how a decision follows from probabilities
    chat_template_kwargs: dict
    dtype: str  # in which the run was evaluated
    base: dict  # source, id, revision, licence
    batch_size: int  # of the evaluation
    predictions: dict  # file, sha256, suite: what parity was held against
    data: dict  # sha256 and rows of each split
    hidden_rules: tuple[str, ...]  # names, where they were asked for
    created: str
    files: dict[str, dict]  # bytes and sha256 of every other file, by its path below the folder

    @property
    def manifest(self) -> Path:
        """The base's manifest, as `BaseModel` takes it."""
        return self.folder / BASE_RECORD

    @property
    def adapter(self) -> Path:
        return self.folder / ADAPTER

    @property
    def merged(self) -> Path:
        return self.folder / MERGED

    @property
    def ruleset(self) -> Path:
        """For `load_ruleset`; to render prompts, not to decide."""
        return self.folder / RULESET

    @property
    def name(self) -> str:
        """Of the model, for a server: `laptop/sft-seed0`."""
        return f"{self.experiment}/{self.condition}-seed{self.seed}"


def read_export(folder, check: bool = True) -> Exported:
    """The export in a folder; raises UserError for what is none, or, if `check`, where a file was altered."""
    folder = Path(folder)
    record = folder / RECORD
    if not record.is_file():
        fault = "is a file" if folder.is_file() else "does not exist" if not folder.exists() else f"has no {RECORD}"
        raise UserError(folder, None, fault, "name a folder that make export wrote")
    values = read_json(record, AGAIN)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise UserError(record, "format", "is not that of this version", AGAIN)
    try:
        exported = Exported(folder=folder, **values)
        found = {**vars(exported), "labels": tuple(exported.labels), "hidden_rules": tuple(exported.hidden_rules)}
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in exported.files.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(record, None, f"is damaged ({error})", AGAIN) from error
    for name, (size, sha256) in expected.items() if check else ():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(record, "files", f"names {name}, outside the folder", AGAIN)
        if not path.is_file():
            raise UserError(path, None, "is missing", AGAIN)
        if path.stat().st_size != size or file_sha256(path) != sha256:
            raise UserError(path, None, "was altered since it was exported", AGAIN)
    return Exported(**found)
