"""The files of an export, and the check that they decide as the evaluated adapter did."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml
from transformers import AutoConfig

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, read_json, scratch_folder, write_text
from hidden_rule.deployment import parity
from hidden_rule.deployment.card import model_card
from hidden_rule.deployment.chosen import Chosen, choose, evaluated
from hidden_rule.deployment.exported import (
    ADAPTER,
    BASE,
    BASE_RECORD,
    CARD,
    FORMAT,
    GGUF,
    GGUF_FILE,
    MERGED,
    PARITY,
    RECORD,
    RULESET,
    Exported,
)
from hidden_rule.deployment.folders import check_room, copy_files, copy_licences, entries_of, put_in_place
from hidden_rule.deployment.gguf_file import gguf_source, write_gguf
from hidden_rule.experiment.display import display_names
from hidden_rule.models.adapters import ADAPTER as ADAPTER_FILES
from hidden_rule.models.architecture import quantization
from hidden_rule.models.context import context_length
from hidden_rule.models.files import EXPORTED
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.models.merging import write_merged
from hidden_rule.models.tokens import encode_prompts, encode_reply
from hidden_rule.models.untrusted import check_adapter_config
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import Ruleset, load_ruleset, observed_document


@dataclass(frozen=True)
class Wanted:
    """What a user asks for beside the run."""

    hidden: bool = False  # name hidden rules
    cases: int | None = None  # of the evaluated ones that parity is held against, the first so many; None: all
    vllm: bool = False  # check parity by vLLM too
    gguf: bool = False  # write the merged weights as GGUF too


def export_run(results: str, condition: str, seed: str, wanted: Wanted, say=print) -> Path:
    """Write the export of a trained run; returns its folder.

    say: is called with a line for each thing that was done. Raises UserError for what cannot be exported, and where
    parity does not hold.
    """
    chosen = choose(results, condition, seed)
    if wanted.gguf:
        gguf_source(chosen.manifest)
    folder = chosen.results.layout.folder / "export" / f"{chosen.run.condition}-seed{chosen.run.seed}"
    if folder.parent.is_symlink():  # results may be somebody else's
        raise UserError(folder.parent, None, "is a link", "delete it: exports lie in the run's own folder")
    if folder.is_symlink() or (folder.exists() and not (folder / RECORD).is_file()):
        raise UserError(folder, None, "is there and no export", "move it elsewhere")
    check_room(folder, needed_bytes(chosen, wanted))
    try:
        folder.parent.mkdir(exist_ok=True)
        with scratch_folder(folder) as scratch:
            scratch.mkdir()
            write_export(chosen, scratch, wanted, say)
            put_in_place(scratch, folder)
    except OSError as error:  # a full disk, or one that went away
        fault = f"the export failed ({error.strerror or error})"
        raise UserError(error.filename or folder, None, fault, "free space, or look at the disk") from error
    except MemoryError as error:
        fault = f"the weights of {chosen.manifest['id']} do not fit this machine's memory"
        raise UserError("CONDITION", None, fault, "export on a machine that holds the model twice") from error
    return folder


def needed_bytes(chosen: Chosen, wanted: Wanted) -> int:
    """What the export takes of the disk: the base where it is copied, merged weights, the adapter."""
    sizes = {name: entry["bytes"] for name, entry in chosen.manifest["files"].items()}
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    copied = 0 if chosen.is_hub else sum(sizes.values())
    wider = (2 if chosen.dtype == "float32" else 1) + wanted.gguf  # than the base's own files may be
    return copied + wider * weights + sum(path.stat().st_size for path in chosen.adapter.iterdir() if path.is_file())


def write_export(chosen: Chosen, folder: Path, wanted: Wanted, say) -> None:
    """Write an export into an empty folder, and check it."""
    tokenizer = base_files(chosen, folder)
    adapter_files(chosen, folder / ADAPTER, tokenizer)
    has_merged = quantization(chosen.base) is None
    if has_merged:
        merged_files(chosen, folder / MERGED, tokenizer)
        if wanted.gguf:
            write_gguf(
                gguf_source(chosen.manifest), folder / MERGED, tokenizer.chat_template, folder / GGUF / GGUF_FILE
            )
    else:
        say(f"no {MERGED}/: the base's weights are quantized")
    ruleset_file(chosen.results.ruleset, folder / RULESET)
    exported = description(chosen, folder, tokenizer, wanted)
    questions = questions_of(chosen, exported, tokenizer, wanted.cases)
    found = parity.checks(questions, folder, has_merged, say)
    if wanted.vllm and has_merged:
        found.append(parity.checked_by_vllm(questions, folder, say))
    found_record = parity.record(found, questions, chosen.setting.suite)
    write_text(json.dumps(found_record, indent=1, ensure_ascii=False) + "\n", folder / PARITY)
    example = example_messages(chosen)
    for artifact in (ADAPTER, MERGED) if has_merged else (ADAPTER,):
        write_text(model_card(chosen, exported, found, example, artifact), folder / artifact / CARD)
    shutil.copyfile(folder / ADAPTER / CARD, folder / CARD)
    values = asdict(replace(exported, files=entries_of(folder, exported.files)))
    del values["folder"]
    write_text(json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False) + "\n", folder / RECORD)


def base_files(chosen: Chosen, folder: Path):
    """Write the base's manifest, and its files where it is no model of the Hub; returns the tokenizer as it is used."""
    manifest = chosen.manifest
    if not chosen.is_hub:
        copy_files(chosen.base, folder / BASE, manifest["files"])
        manifest = {**manifest, "source": EXPORTED, "folder": BASE}
        if chosen.manifest["source"] == "path":
            manifest["id"] = Path(manifest["id"]).name  # not where it lies on this machine
    write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", folder / BASE_RECORD)
    return load_tokenizer(folder / BASE_RECORD, chosen.results.config["model"]["chat_template_kwargs"])


def adapter_files(chosen: Chosen, folder: Path, tokenizer) -> None:
    """Write a plain PEFT folder whose config names a base that is found."""
    folder.mkdir()
    weights, config = (chosen.adapter / name for name in ADAPTER_FILES)
    values = check_adapter_config(config)
    values["base_model_name_or_path"] = chosen.manifest["id"] if chosen.is_hub else f"./{BASE}"
    values["revision"] = chosen.manifest["revision"] if chosen.is_hub else None
    shutil.copyfile(weights, folder / ADAPTER_FILES[0])
    write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", folder / ADAPTER_FILES[1])
    tokenizer.save_pretrained(folder)


def merged_files(chosen: Chosen, folder: Path, tokenizer) -> None:
    """Write a plain transformers folder of base plus adapter, in the type that was evaluated."""
    write_merged(chosen.base, chosen.adapter, chosen.dtype, folder)
    config = read_json(folder / "config.json")
    for place in (config, config.get("text_config")):
        if isinstance(place, dict):
            place.pop("torch_dtype", None)  # the older name of the same key
            place["dtype"] = chosen.dtype
    write_text(json.dumps(config, indent=2) + "\n", folder / "config.json")
    tokenizer.save_pretrained(folder)
    copy_licences(chosen.base, folder)


def ruleset_file(ruleset: Ruleset, path: Path) -> None:
    """Write what prompts are rendered from: features, labels, templates, and those rules that are not hidden.

    Of a file of past decisions no case's text is kept, and of numbers only their range.
    """

    def without_cases(feature):
        kept = {"number": (feature.low, feature.high), "text": ()}.get(feature.kind, feature.observed)
        return replace(feature, observed=kept) if feature.observed else feature

    told = replace(
        ruleset,
        features=tuple(map(without_cases, ruleset.features)),
        rules=tuple(rule for rule in ruleset.rules if not rule.hidden),
        observed_labels=ruleset.labels,
        description="" if ruleset.hidden_rules else ruleset.description,
        source=Path(ruleset.source).name,
    )
    document = json.loads(json.dumps(observed_document(told)))  # tuples as lists
    write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), path)


def description(chosen: Chosen, folder: Path, tokenizer, wanted: Wanted) -> Exported:
    """What `export.json` says, but for files that are not written yet."""
    results, run, config = chosen.results, chosen.run, chosen.results.config
    tokens = {label: encode_reply(tokenizer, label, results.labels) for label in results.labels}
    predictions = results.predictions_path(run)
    model = read_json(folder / BASE_RECORD)
    splits = [*SPLITS, *(["suites"] if results.has_suites else [])]
    recorded = (results.provenance or {}).get("data", {})
    return Exported(
        folder=folder,
        experiment=str(config["experiment"]),
        condition=run.condition,
        display_name=display_names(config["conditions"])[run.condition],
        seed=run.seed,
        method=str(run.method),
        start_from=chosen.start_from,
        labels=tuple(results.labels),
        replies={label: render_reply(label, results.labels) for label in results.labels},
        reply_tokens=tokens,
        longest_reply=max(map(len, tokens.values())),
        context_length=context_length(AutoConfig.from_pretrained(chosen.base, local_files_only=True)),
        decision="the most probable valid reply",
        chat_template_kwargs=config["model"]["chat_template_kwargs"],
        dtype=chosen.dtype,
        base={"source": chosen.manifest["source"], **{key: model.get(key) for key in ("id", "revision", "licence")}},
        batch_size=config["evaluation"]["batch_size"],
        predictions={
            "file": predictions.relative_to(results.layout.folder).as_posix(),
            "sha256": file_sha256(predictions),
            "suite": chosen.setting.suite,
        },
        data={name: recorded[name] for name in splits if name in recorded},
        hidden_rules=tuple(rule.name for rule in results.ruleset.hidden_rules) if wanted.hidden else (),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=entries_of(folder),
    )


def questions_of(chosen: Chosen, exported: Exported, tokenizer, n: int | None) -> parity.Questions:
    """The evaluated cases and their answers; prompts are rendered from the exported ruleset.

    Raises UserError where a case of the predictions is not in its split.
    """
    rows = evaluated(chosen, n)
    cases = rows.join(
        chosen.results.split(chosen.setting.suite), on="application_id", how="left", maintain_order="left"
    )
    if not len(rows) or len(cases) != len(rows) or cases["label"].has_nulls():
        path = chosen.results.layout.predictions(chosen.run)
        raise UserError(path, "application_id", "has cases that are not in their split", "run the experiment again")
    told, kwargs = render_prompts(load_ruleset(exported.ruleset), cases), exported.chat_template_kwargs
    as_evaluated = render_prompts(chosen.results.ruleset, cases)
    return parity.Questions(
        ids=rows["application_id"].to_list(),
        conversations=told,
        prompt_tokens=encode_prompts(tokenizer, as_evaluated, kwargs, chosen.results.config["ruleset"]),
        labels=exported.labels,
        replies=[exported.reply_tokens[label] for label in exported.labels],
        expected=rows.select(f"p_{label}" for label in exported.labels).to_numpy(),
        dtype=exported.dtype,
        batch_size=exported.batch_size,
    )


def example_messages(chosen: Chosen) -> list[dict]:
    """The messages of a case for the card: the first that was answered freely, or that parity was held against.

    Of past decisions, which are not ours to print, of a case in the middle of each range and without its texts.
    """
    results, ruleset = chosen.results, chosen.results.ruleset
    frame = results.split((results.free or chosen.setting).suite).head(1)
    if ruleset.is_observed:
        shown = {}
        for feature in ruleset.features:
            value = feature.values.sort()[len(feature.values) // 2] if feature.kind == "number" else None
            shown[feature.name] = feature.choices[0] if feature.kind == "choice" and feature.choices else value
        frame = frame.with_columns(
            frame[name].clear(1) if value is None else frame[name].clear(1).fill_null(value)
            for name, value in shown.items()
        )
    return render_prompts(ruleset, frame)[0]
