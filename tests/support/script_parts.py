"""Provide the small models and data of the scripts in tests/scripts, and what a script reports.

Public scripts download models and data sets. A script here calls a function of this module
instead, which builds the same class of model from a small configuration, always with the same
weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 40
WIDTH = 16


def base_model(class_name: str, **changes: Any) -> Any:
    """Return a small model of a class of transformers, with fixed weights and no dropout.

    Args:
        class_name: such as `BartForConditionalGeneration`.
        changes: fields of its configuration that the script sets.
    """
    import transformers

    model_class = getattr(transformers, class_name)
    config = model_class.config_class(**{**_SIZES[model_class.config_class.model_type], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return model_class(config)


_DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_SPEECH = {
    "dropout": 0.0,
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_SIZES: dict[str, dict[str, Any]] = {
    "bart": {**_SPEECH, "max_position_embeddings": 64, "forced_eos_token_id": 2},
    "bert": _ENCODER,
    "llama": _DECODER,
    "roberta": {**_ENCODER, "pad_token_id": 0},
    "whisper": {
        **_SPEECH,
        "num_mel_bins": 4,
        "max_source_positions": 8,
        "max_target_positions": 16,
        "begin_suppress_tokens": None,
    },
}


def saved_base(class_name: str, **changes: Any) -> str:
    """Save such a model in the working folder and return the path, for `from_pretrained`."""
    folder = f"base-{class_name}"
    base_model(class_name, **changes).save_pretrained(folder)
    return folder


def tokenizer(**options: Any) -> Any:
    """Return a tokenizer whose words are w4, w5, ... with their numbers as identifiers."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    words = [*special.values(), *(f"w{n}" for n in range(len(special), VOCABULARY))]
    model = Tokenizer(
        WordLevel({word: n for n, word in enumerate(words)}, unk_token=special["unk_token"])
    )
    model.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, **special, **options)


def sentences(count: int, length: int = 8, seed: int = 2) -> list[str]:
    """Return `count` sentences of `length` words, always the same."""
    return [" ".join(f"w{n}" for n in row) for row in token_rows(count, length, seed).tolist()]


def token_rows(count: int, length: int = 8, seed: int = 2) -> torch.Tensor:
    """Return token identifiers of shape `[count, length]`, always the same."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCABULARY, (count, length), generator=generator)


def numbers(*shape: int, seed: int = 2) -> torch.Tensor:
    """Return normal random numbers of a shape, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(model: torch.nn.Module) -> dict[str, int]:
    """Return the number of singular values that are not zero, per adapted matrix."""
    marker = ".lora_E."
    return {
        name.partition(marker)[0].rpartition("base_model.model.")[2]: int(parameter.count_nonzero())
        for name, parameter in model.named_parameters()
        if marker in name
    }


def files(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the files in a folder and below."""
    root = Path(folder)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
