"""Count the bytes that training holds beside those of the frozen model: ours, PEFT's and LoRA's.

    python benchmarks/bench_memory.py        # writes benchmarks/results/memory.json

What is saved for the backward pass is counted by hooks. Each contender trains in a process of its
own, so that the peak of a step is that of the process. What the frozen model takes in the same way
is subtracted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# Before torch is loaded: each large block of glibc goes back to the system when it is freed.
os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"

import peft
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import BertConfig, BertForSequenceClassification

from adalora_core import AdaLoraConfig, get_peft_model

RESULTS = Path(__file__).parent / "results" / "memory.json"
HIDDEN, LAYERS, BATCH = 384, 6, (24, 48)
INIT_R, TARGET_R = 12, 4
STEPS = 6
TARGETS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
BUDGETING, FINAL = ({"tinit": 1, "tfinal": each, "total_step": 10_000} for each in (100, 9_996))
ADALORA = {"init_r": INIT_R, "target_r": TARGET_R, "deltaT": 1}
CONTENDERS: dict[str, tuple[Callable[..., Any], type, dict[str, int]] | None] = {
    "frozen model": None,
    "AdaLoRA, ours": (get_peft_model, AdaLoraConfig, {**ADALORA, **BUDGETING}),
    "AdaLoRA, PEFT's": (peft.get_peft_model, peft.AdaLoraConfig, {**ADALORA, **BUDGETING}),
    f"LoRA of rank {INIT_R}, PEFT's": (peft.get_peft_model, peft.LoraConfig, {"r": INIT_R}),
    "AdaLoRA, ours, compacted": (get_peft_model, AdaLoraConfig, {**ADALORA, **FINAL}),
    f"LoRA of rank {TARGET_R}, PEFT's": (peft.get_peft_model, peft.LoraConfig, {"r": TARGET_R}),
}
"""What trains; after `compact` AdaLoRA has rank `TARGET_R` on average."""
SETTINGS = [(dtype, dropout) for dtype in ("float32", "bfloat16") for dropout in (0.0, 0.1)]
"""The dtype of the base model, and `lora_dropout`."""


def model_of(name: str, dtype: str, dropout: float) -> Any:
    """Return the model of a contender: MiniLM's shape, with or without adapters."""
    torch.manual_seed(0)
    base = BertForSequenceClassification(
        BertConfig(
            hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=12,
            intermediate_size=4 * HIDDEN, vocab_size=1000,
        )
    ).to(getattr(torch, dtype)).requires_grad_(False)  # fmt: skip
    if (made := CONTENDERS[name]) is None:
        return base
    adapt, config, own = made
    return adapt(base, config(lora_alpha=32, lora_dropout=dropout, target_modules=TARGETS, **own))


class Training:
    """A contender with its optimizer.

    Args:
        model: the model; it is trained by AdamW where something needs a gradient.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.train()
        trained = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, 1e-3) if trained else None
        self.steps = 0

    def forward(self) -> Tensor:
        """Return the loss, with the penalty that AdaLoRA adds."""
        # Embeddings with a gradient: the backward pass of the frozen model goes through all of it.
        dtype = next(self.model.parameters()).dtype
        inputs = torch.randn(*BATCH, HIDDEN, dtype=dtype, requires_grad=True)
        loss = self.model(inputs_embeds=inputs, labels=torch.zeros(BATCH[0], dtype=torch.long)).loss
        if hasattr(self.model, "orthogonality_penalty"):
            loss = loss + self.model.orthogonality_penalty()
        return loss

    def step(self) -> None:
        """Take a step of the optimizer."""
        self.forward().backward()
        if self.optimizer is not None:
            self.optimizer.step()
            if hasattr(self.model.base_model, "update_and_allocate"):
                self.model.base_model.update_and_allocate(self.steps)
            self.optimizer.zero_grad()
        self.steps += 1

    def saved(self) -> int:
        """Return the bytes that a forward pass saves beside parameters, each memory once."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.forward()
        del loss
        for each in self.model.parameters():
            kept.pop(each.untyped_storage().data_ptr(), None)
        return sum(kept.values())

    def averages(self) -> int:
        """Return the bytes of the allocator's moving averages."""
        if hasattr(self.model, "trained_adapters"):
            held = self.model.trained_adapters()[0].allocator.statistics
            return size_of((*held.smoothed, *held.uncertainty))
        allocator = getattr(self.model.base_model, "rankallocator", None)
        if allocator is None:
            return 0
        held = (allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc)
        return size_of(tensor for each in held for tensor in each.values())


def size_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors."""
    return sum(each.numel() * each.element_size() for each in tensors)


def memory(field: str) -> int:
    """Return a size in /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1])  # type: ignore[index]


def measure(name: str, dtype: str, dropout: float) -> dict[str, int]:
    """Train a contender in this process; return its bytes."""
    torch.set_num_threads(1)
    training = Training(model_of(name, dtype, dropout))
    for _ in range(STEPS):
        training.step()
    if name.endswith("compacted"):
        training.model.compact(training.optimizer)
        training.step()
    state = training.optimizer.state.values() if training.optimizer else ()
    found = {
        "factors": size_of(each for each in training.model.parameters() if each.requires_grad),
        "moments": size_of(t for each in state for t in each.values() if torch.is_tensor(t)),
        "averages": training.averages(),
        "saved": training.saved(),
    }
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    training.step()
    return found | {"peak": memory("VmHWM")}


def alone(*arguments: Any) -> dict[str, int]:
    """Return what `measure` finds in a process of its own, with what is imported here."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    jobs = [(name, *setting) for setting in SETTINGS for name in CONTENDERS]
    found = {job: alone(*job) for job in tqdm(jobs)}
    rows = []
    for (name, *setting), held in found.items():
        floor = found["frozen model", *setting]
        if held is not floor:
            less = {part: value - floor[part] for part, value in held.items()}
            rows.append({"name": name, "dtype": setting[0], "dropout": setting[1]} | less)
    figures = {
        "torch": torch.__version__,
        "peft": peft.__version__,
        "matrices": len(TARGETS) * LAYERS,
        "batch": f"{BATCH[0]} x {BATCH[1]}",
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
