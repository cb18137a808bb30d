"""Generation settings: a model's own are not used, but for the tokens that end a reply.

All models are asked alike: greedily, or drawn from the whole distribution. A repetition penalty, say, would punish the
second of two equal words of a reply.
"""

from transformers import GenerationConfig

from hidden_rule.core.errors import SettingError

IDS = ("eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id")
SILENT = {  # settings that decide nothing about which reply is generated here
    *IDS, "transformers_version", "use_cache", "return_dict_in_generate", "max_length", "max_new_tokens",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "cache_implementation",
    "disable_compile", "trust_remote_code", "_from_model_config", "chat_format", "early_stopping",
    "num_return_sequences",
}  # fmt: skip
NEUTRAL_AT_1 = {
    *("temperature", "top_p", "typical_p", "repetition_penalty", "encoder_repetition_penalty", "length_penalty"),
    *("num_beams", "num_beam_groups", "guidance_scale"),
}


def make_neutral(network) -> None:
    """Leave of a network's generation settings only the ids of tokens."""
    if own := getattr(network, "generation_config", None):
        ids = {name: getattr(own, name, None) for name in IDS}
        network.generation_config = GenerationConfig(
            **{name: value for name, value in ids.items() if value is not None}
        )


def not_applied(settings: dict) -> dict:
    """Those of a model's generation settings that would change its replies, and are not applied."""
    return {
        name: value
        for name, value in settings.items()
        if name not in SILENT and value and not (name in NEUTRAL_AT_1 and value == 1)
    }


def declared_stops(settings: dict) -> list[int]:
    """The ids of tokens that end a reply by a model's generation settings; raises SettingError if they are none."""
    declared = settings.get("eos_token_id")
    ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
    for i in ids:
        if not isinstance(i, int) or isinstance(i, bool):
            fault = f"generation_config.json: eos_token_id: {str(i)[:40]!r} is no token's id"
            raise SettingError("model.id", fault, "mend the file in the model's folder")
    try:
        GenerationConfig(**settings)
    except Exception as error:  # values of any type, which transformers compares and converts
        reason = " ".join(str(error).split())[:200]
        fault = f"generation_config.json cannot be used ({reason})"
        raise SettingError("model.id", fault, "mend the file in the model's folder") from error
    return ids
