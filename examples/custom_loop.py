"""Train with AdaLoRA in your own loop: any module, your own loss, gradient accumulation.

A frozen network is adapted to a target that differs from it by a rank-2 change of its last matrix.
The allocator does not know which of the three matrices changed; most of the rank ends there.

Run it with: python examples/custom_loop.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model

STEPS = 300
MICRO_BATCHES = 2


def network() -> nn.Sequential:
    """Return the same random network at every call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)
    )


def target_network() -> nn.Sequential:
    """Return the network with a rank-2 change of its last matrix."""
    changed = network()
    with torch.no_grad():
        changed[4].weight += 0.2 * torch.randn(8, 2) @ torch.randn(2, 32)
    return changed


def main() -> None:
    """Train, print the ranks, save, reload."""
    target = target_network()
    config = AdaLoraConfig(
        target_modules="all-linear",
        init_r=4,
        target_r=1,
        lora_alpha=8,
        tinit=30,
        tfinal=100,
        total_step=STEPS,  # optimizer steps, not micro-batches
        orth_reg_weight=0.1,
    )
    model = get_peft_model(network(), config)
    model.print_trainable_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    for step in range(STEPS):
        for _ in range(MICRO_BATCHES):
            x = torch.randn(64, 16)
            loss = nn.functional.mse_loss(model(x), target(x).detach()) / MICRO_BATCHES
            loss.backward()
        # There is no outputs.loss, so the penalty is added by hand, once per optimizer step.
        model.orthogonality_penalty().backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()

    x = torch.randn(256, 16)
    model.eval()
    print(f"error before {nn.functional.mse_loss(network()(x), target(x)):.4f}")
    print(f"error after  {nn.functional.mse_loss(model(x), target(x)):.4f}")
    for module, kept in model.peft_config["default"].rank_pattern.items():
        print(f"rank {sum(kept)} of {len(kept)}: {module.removesuffix('.lora_E.default')}")

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        reloaded = AdaLoraModel.from_pretrained(network(), folder)
        print(f"largest difference after reloading {(model(x) - reloaded(x)).abs().max():.1e}")


if __name__ == "__main__":
    main()
