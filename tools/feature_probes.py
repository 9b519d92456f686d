"""List the probes of feature_comparison.py, one for each row of its page."""

from __future__ import annotations

import adapter_probes as adapters
import file_probes as files
import framework_probes as frameworks
import target_probes as targets
import torch
from model_probes import export_lora
from probe_setting import Probe
from target_probes import IDS, Attention, learns
from torch import nn
from training_probes import (
    compaction,
    convolution,
    forgotten_call,
    quantised_looking,
    two_trainable,
)


def conv(kind: type[nn.Module]) -> nn.Module:
    """Return a model of one convolution."""
    return nn.Sequential(kind(4, 4, 3))


GROUPS: dict[str, list[Probe]] = {
    "Files": [
        Probe("export as plain LoRA", export_lora),
        Probe("loads a file without total_step", files.without_total_step),
        Probe("loads under other names of modules (key_mapping)", files.renamed_layers),
    ],
    "Allocation": [
        Probe("warns if update_and_allocate is never called", forgotten_call),
        Probe("two trainable adapters", two_trainable),
        Probe("frees dropped triplets in training", compaction),
        Probe(
            "rankallocator.ipt, first read after zero_grad()",
            adapters.late_sensitivity,
            "`ipt` is computed when it is read: read it before `zero_grad()`",
        ),
        Probe(
            "an allocator of one's own in place of rankallocator",
            adapters.replaced_allocator,
            "refused by an error: the allocator is compiled",
        ),
    ],
    "Layers": [
        Probe("Conv2d with groups", convolution(groups=2)),
        Probe("Conv2d with circular padding", convolution(padding=1, padding_mode="circular")),
        Probe("a linear module that hides its weight, as quantised ones do", quantised_looking),
        Probe("Conv1d of torch", learns(conv(nn.Conv1d), torch.randn(2, 4, 6), "0")),
        Probe("Conv3d", learns(conv(nn.Conv3d), torch.randn(2, 4, 6, 6, 6), "0")),
        Probe("Embedding", learns(nn.Sequential(nn.Embedding(16, 8)), IDS, "0")),
        Probe("MultiheadAttention", learns(Attention(), torch.randn(2, 3, 8), "attention")),
        Probe("scale_layer, unscale_layer", adapters.scaled),
    ],
    "Several adapters and merging": [
        Probe("set_adapter of the model with several names", adapters.together_by_model),
        Probe("another adapter for each row of a batch (adapter_names)", adapters.mixed_batch),
        Probe("load_adapter into an adapter that is there", adapters.swapped),
        Probe("hotswap_adapter of PEFT", adapters.hotswapped),
        Probe("convert_to_lora of PEFT", adapters.lora_of_any_rank),
    ],
    "Configuration": [
        Probe("numbers of NumPy", targets.numbers_of_numpy),
    ],
    "torch and other libraries": [
        Probe("FSDP2: train and save", frameworks.sharded),
        Probe("Trainer: a callback that allocates", frameworks.trainer_allocates),
    ],
}
