"""Time a training step of MiniLM: PEFT's model, the same attached, and ours, in one process.

Run it with: python benchmarks/bench_bridge.py
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import peft
import torch
from transformers.utils.logging import disable_progress_bar

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.demo.encoder import load_encoder, mean_pooled, verified_model_folder
from adalora_core.demo.settings import FULL
from adalora_core.integrations.peft import attach, to_peft_config

TINIT = 2


def contenders(total_step: int) -> dict[str, torch.nn.Module]:
    """Return the three models, all with the settings of the demo."""
    folder = verified_model_folder()
    changes = {"total_step": total_step, "tinit": TINIT, "tfinal": 0, "deltaT": 1}
    ours = AdaLoraConfig(**{**FULL.configuration(), **changes})
    theirs = to_peft_config(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "PEFT": peft.get_peft_model(load_encoder(folder), theirs),
            "attached": attach(peft.get_peft_model(load_encoder(folder), to_peft_config(ours))),
            "ours": get_peft_model(load_encoder(folder), ours),
        }


def step_seconds(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> float:
    """Make one step of the budgeting phase and return how long it took."""
    generator = torch.Generator().manual_seed(step)
    inputs = {
        "input_ids": torch.randint(1000, 20000, (32, 8), generator=generator),
        "attention_mask": torch.ones(32, 8, dtype=torch.long),
    }
    started = time.perf_counter()
    loss = mean_pooled(model, inputs).square().mean()
    penalty = getattr(model, "orthogonality_penalty", None)
    loss = loss + (peft_penalty(model) if penalty is None else penalty())
    loss.backward()
    optimizer.step()
    model.base_model.update_and_allocate(step)
    optimizer.zero_grad()
    return time.perf_counter() - started


def peft_penalty(model: torch.nn.Module) -> torch.Tensor:
    """Return what PEFT's `AdaLoraModel.forward` adds to a loss of the base model's own."""
    terms = []
    for name, factor in model.base_model.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = factor @ factor.T if "lora_A" in name else factor.T @ factor
            unit = torch.eye(*product.size(), out=torch.empty_like(product))
            unit.requires_grad = False
            terms.append(torch.norm(product - unit, p="fro"))
    return model.peft_config["default"].orth_reg_weight * sum(terms) / len(terms)


def main() -> None:
    """Time interleaved steps and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    disable_progress_bar()
    models = contenders(total_step=steps + 20)
    optimizers = {
        name: torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for step in range(steps):
        for name, model in models.items():
            taken = step_seconds(model.train(), optimizers[name], step)
            if step > TINIT:
                seconds[name].append(taken)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print("| model | ms per step, median | against ours |\n|---|---|---|")
    for name, each in medians.items():
        print(f"| {name} | {each * 1e3:.1f} | {each / medians['ours']:.3f} |")


if __name__ == "__main__":
    main()
