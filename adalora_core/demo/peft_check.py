"""Reload the saved adapter with PEFT, as any other user of the file does."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save
from torch import nn

from adalora_core.demo.encoder import features, load_encoder, logits
from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adalora_core.demo.encoder import WordBatches

HEAD_FILE = "head.safetensors"
"""The linear head; the adapter's own files have no place for it."""


def save_head(head: nn.Module, adapter: Path) -> None:
    """Write the linear head into the adapter's folder.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(adapter / HEAD_FILE, save(head.state_dict()))


def load_head(adapter: Path) -> nn.Linear:
    """Return the linear head that `save_head` wrote."""
    state = load_file(adapter / HEAD_FILE)
    outputs, inputs = state["weight"].shape
    head = nn.Linear(inputs, outputs)
    head.load_state_dict(state)
    return head


@torch.inference_mode()
def predictions_with_peft(model_folder: Path, adapter: Path, words: WordBatches) -> Tensor:
    """Return the logits `[words]` of a fresh encoder with the saved adapter, loaded by PEFT."""
    from peft import PeftModel

    encoder = load_encoder(model_folder)
    with warnings.catch_warnings():
        # PEFT 0.21 warns about every such adapter: it uses the old name of an attribute of
        # transformers 5, and mistakes AdaLoRA's pattern for LoRA's and rank 0 for a broken matrix.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "The following rank_pattern keys", RuntimeWarning)
        warnings.filterwarnings("ignore", ".*LoRA tensor.* have invalid shape", UserWarning)
        model = PeftModel.from_pretrained(encoder, str(adapter))
    return logits(load_head(adapter), features(model, words))


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest absolute difference of two logit vectors."""
    return (ours - theirs).abs().max().item()
