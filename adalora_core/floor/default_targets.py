"""Name the modules to adapt where a configuration names none, per model type, as in PEFT 0.21."""

from __future__ import annotations

_QV = ("q_proj", "v_proj")
_BART = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

DEFAULT_TARGETS: dict[str, tuple[str, ...] | str] = {
    "bart": _BART,
    "bert": ("query", "value"),
    "bloom": ("query_key_value",),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "gemma": _QV,
    "gemma2": _QV,
    "gemma3_text": _QV,
    "gemma4": r".*language_model\..*\.(q_proj|v_proj)",
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "gpt_neo": _QV,
    "gpt_neox": ("query_key_value",),
    "gptj": _QV,
    "llama": _QV,
    "llama4": _QV,
    "mt5": ("q", "k", "v", "o", "wi_0", "wi_1", "wo"),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "opt": _BART,
    "qwen2": _QV,
    "qwen3": _QV,
    "roberta": ("query", "key", "value", "dense"),
    "t5": ("q", "k", "v", "o", "wi", "wo"),
}
"""{transformers model type: module names, or a regular expression over the whole path}."""
