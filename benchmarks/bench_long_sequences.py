"""Compare what adapters add to one layer of a large model: long sequences, forward and backward.

python benchmarks/bench_core.py long_sequences

One layer of each kind: a step of a whole block takes a minute, in which the difference drowns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from bench_adapted_linear import contenders
from bench_training_step import keep_memory
from measure import Case

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCHES = ((1, 2048), (4, 2048))
SIZES = {
    "LLaMA-7B": ((4096, 4096), (4096, 11008), (11008, 4096)),
    "Qwen-0.5B": ((896, 896), (896, 128), (896, 4864), (4864, 896)),
}
GOAL = 0.4
DTYPES = (torch.float32, torch.bfloat16)
ROUNDS = {"LLaMA-7B": 3, "Qwen-0.5B": 15}
"""A round of the larger model takes up to half a minute."""


def cases() -> Iterator[Case]:
    """Yield every comparison."""
    keep_memory()
    for model, sizes in SIZES.items():
        for batch in BATCHES:
            for n_in, n_out in sizes:
                for dtype in DTYPES:
                    layers = contenders(batch, n_in, n_out, dtype)
                    alone = layers.pop("alone")
                    del layers["two nodes"], layers["peft"]
                    steps = {f"layer of {name}": layer for name, layer in layers.items()}
                    yield Case(
                        "added cost, long",
                        f"{model}, [{batch[0]} x {batch[1]} x {n_in} -> {n_out}] "
                        f"{str(dtype).removeprefix('torch.')}",
                        {"alone": alone, **steps},
                        against="plain LoRA",
                        goal=GOAL,
                        at_most=True,
                        minus={name: (f"layer of {name}", "alone") for name in layers},
                        rounds=ROUNDS[model],
                        warm_up=1,
                    )
