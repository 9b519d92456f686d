"""Measure what compact() saves: bytes of parameters, gradients, AdamW state; time of a step.

    python benchmarks/bench_compaction.py        # writes benchmarks/results/compaction.{json,md}

A masked and a compacted copy of one run take steps in turn; times are medians. The base is a small
transformer built from a configuration; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import BertConfig, BertModel

from adalora_core import AdaLoraConfig, get_peft_model

RESULTS = Path(__file__).parent / "results"
BATCHES = {"8 x 16": (8, 16), "32 x 64": (32, 64)}
INIT_R, TARGET_R, FINAL_START = 12, 4, 4


def model_in_its_final_phase() -> tuple[Any, torch.optim.Optimizer]:
    """Return a MiniLM-sized encoder with a fixed kept set, and its optimizer."""
    torch.manual_seed(0)
    base = BertModel(
        BertConfig(
            hidden_size=384,
            intermediate_size=1536,
            num_hidden_layers=6,
            num_attention_heads=12,
            vocab_size=1000,
        )
    )
    config = AdaLoraConfig(
        init_r=INIT_R,
        target_r=TARGET_R,
        tinit=1,
        tfinal=10_000,  # adalora: ignore[ADA209] - the benchmark is about the final phase
        total_step=10_000 + FINAL_START,  # adalora: ignore[ADA207]
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=["pooler.dense"],
    )
    model = get_peft_model(base, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(FINAL_START + 1):
        train_step(model, optimizer, step, (8, 16))
    return model, optimizer


def train_step(
    model: Any, optimizer: torch.optim.Optimizer, step: int, size: tuple[int, int]
) -> None:
    """Take one step on random tokens."""
    ids = torch.randint(0, 1000, size)
    loss = model(input_ids=ids).last_hidden_state.square().mean() + model.orthogonality_penalty()
    loss.backward()
    optimizer.step()
    model.update_and_allocate(step)
    optimizer.zero_grad()


def held_bytes(model: Any, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of trained parameters, their gradients, and the optimizer's state."""
    trained = [p for p in model.parameters() if p.requires_grad]
    state = [t for p in trained for t in optimizer.state[p].values() if torch.is_tensor(t)]
    return sum(t.numel() * t.element_size() for t in (*trained, *trained, *state))


def measure(repeats: int) -> dict[str, Any]:
    """Return the figures of the JSON file."""
    masked, masked_optimizer = model_in_its_final_phase()
    compacted, optimizer = copy.deepcopy((masked, masked_optimizer))
    before = held_bytes(compacted, optimizer)
    compacted.compact(optimizer)
    pairs = {"masked": (masked, masked_optimizer), "compacted": (compacted, optimizer)}
    rows = {}
    for name, size in BATCHES.items():
        times: dict[str, list[float]] = {kind: [] for kind in pairs}
        for index in tqdm(range(repeats), desc=name):
            for kind, (model, stepper) in pairs.items():
                start = time.perf_counter()
                train_step(model, stepper, FINAL_START + 1 + index, size)
                times[kind].append(time.perf_counter() - start)
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        rows[name] = {
            "masked_ms": 1e3 * medians["masked"],
            "compacted_ms": 1e3 * medians["compacted"],
            "ratio": medians["compacted"] / medians["masked"],
        }
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "init_r": INIT_R,
        "target_r": TARGET_R,
        "bytes_before": before,
        "bytes_after": held_bytes(compacted, optimizer),
        "steps": rows,
    }


def as_markdown(figures: dict[str, Any]) -> str:
    """Return the table."""
    before, after = figures["bytes_before"], figures["bytes_after"]
    lines = [
        (
            f"`compact()` from rank {figures['init_r']} to {figures['target_r']} on average, "
            f"{figures['threads']} threads, torch {figures['torch']}; "
            "`python benchmarks/bench_compaction.py`."
        ),
        "",
        "| what | masked | compacted | ratio |",
        "| --- | ---: | ---: | ---: |",
        (
            f"| parameters, gradients, AdamW state | {before / 1e6:.2f} MB | {after / 1e6:.2f} MB "
            f"| {after / before:.2f} |"
        ),
    ]
    for name, row in figures["steps"].items():
        lines.append(
            f"| step of {name} tokens | {row['masked_ms']:.1f} ms | {row['compacted_ms']:.1f} ms "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="steps of each kind and batch")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    figures = measure(arguments.repeats)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = as_markdown(figures)
    (arguments.output / "compaction.json").write_text(json.dumps(figures, indent=2) + "\n")
    (arguments.output / "compaction.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
