"""Make a tokenizer for the small language models: one token per word `w0`, `w1` and so on."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from toy_models import VOCABULARY
from transformers import PreTrainedTokenizerFast


def words() -> PreTrainedTokenizerFast:
    """Return the tokenizer."""
    ids = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    ids |= {f"w{number}": number + 4 for number in range(VOCABULARY - 4)}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106 - a token of text
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)
