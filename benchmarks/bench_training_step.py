"""Compare training steps of MiniLM, whole ones and what adapters add to the frozen model's.

python benchmarks/bench_training_step.py      # where our part of what is added is spent
python benchmarks/bench_core.py training_step # the comparisons
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import peft
import torch
from measure import Case, run
from shapes import RANK
from transformers import BertConfig, BertModel

from adalora_core import AdaLoraConfig, _cpu, get_peft_model
from adalora_core.ops import _backend, adapted_linear
from adalora_core.ops.adapted_linear import _apply as apply_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


BATCHES = ((8, 16), (24, 48), (32, 64))
ADDED = {(8, 16): 0.6, (24, 48): 0.5, (16, 128): 0.4}
"""Goals for what we add beside what plain LoRA adds, by batch."""
ROUNDS = {(8, 16): 100, (24, 48): 40, (32, 64): 25, (16, 128): 25}
"""A short step needs more: what disturbs it takes a larger part of it."""
HIDDEN, LAYERS = 384, 6
TARGETS = [
    "query",
    "key",
    "value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]
ADAPTER = {"lora_alpha": 32, "target_modules": TARGETS}
SCHEDULE = {"init_r": RANK, "target_r": 4, "total_step": 10**6, "tfinal": 10, "deltaT": 1}


def minilm() -> BertModel:
    """Return a model of MiniLM's shape; the weights do not matter for the time."""
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=12,
            intermediate_size=4 * HIDDEN,
        )
    )


def adapted() -> dict[str, Any]:
    """Return our AdaLoRA, PEFT's plain LoRA and PEFT's AdaLoRA of the model."""
    return {
        "ours": get_peft_model(minilm(), AdaLoraConfig(**SCHEDULE, **ADAPTER)),
        "plain LoRA": peft.get_peft_model(minilm(), peft.LoraConfig(r=RANK, **ADAPTER)),
        "peft": peft.get_peft_model(minilm(), peft.AdaLoraConfig(**SCHEDULE, **ADAPTER)),
    }


def training_step(
    model: Any,
    batch: tuple[int, int],
    allocate: Callable[[int], object] | None,
    *,
    embedded: bool = False,
) -> Callable[[], None]:
    """Return a function that takes one optimizer step.

    Args:
        model: what is trained; PEFT's AdaLoRA leaves its penalty out, since there is no loss.
        batch: rows and tokens.
        allocate: what is called after each step of the optimizer.
        embedded: give the model embeddings that need a gradient instead of tokens, so that the
            backward pass goes through all of a frozen model, and step by fused AdamW.
    """
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4, fused=embedded) if trained else None
    if embedded:
        inputs = {"inputs_embeds": torch.randn(*batch, HIDDEN, requires_grad=True)}
    else:
        inputs = {"input_ids": torch.randint(0, 30000, batch)}
    step = 0

    def take() -> None:
        nonlocal step
        step += 1
        loss = model(**inputs).last_hidden_state.square().mean()
        if hasattr(model, "orthogonality_penalty"):
            loss = loss + model.orthogonality_penalty()
        loss.backward()
        for each in inputs.values():
            each.grad = None
        if optimizer is None:
            return
        optimizer.step()
        if allocate is not None:
            allocate(step)
        optimizer.zero_grad()

    return take


def steps_of(
    models: dict[str, Any], batch: tuple[int, int], *, embedded: bool = False
) -> dict[str, Callable[[], object]]:
    """Return whole steps of `models`; all but plain LoRA allocate."""
    return {
        name: training_step(
            model,
            batch,
            None if name == "plain LoRA" else model.base_model.update_and_allocate,
            embedded=embedded,
        )
        for name, model in models.items()
    }


def portable(function: Callable[[], object]) -> Callable[[], None]:
    """Return `function` without the compiled core."""

    def call() -> None:
        _backend.HAS_CORE = False
        try:
            function()
        finally:
            _backend.HAS_CORE = True

    return call


def contenders(batch: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Return whole steps of each adapter."""
    return steps_of(adapted(), batch)


def embedded_contenders(batch: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Return the step of the frozen model, and steps of each adapter and backend on it."""
    models = adapted() | {"portable": adapted()["ours"]}
    steps = steps_of(models, batch, embedded=True)
    steps["portable"] = portable(steps["portable"])
    frozen = minilm().requires_grad_(False)
    return {"floor": training_step(frozen, batch, None, embedded=True)} | {
        f"step of {name}": step for name, step in steps.items()
    }


def keep_memory() -> None:
    """Let glibc keep freed memory from now on.

    Where it gives the end of its heap back, the next step takes new pages: up to 6,000 faults a
    step of 8 x 16 tokens, of a contender chosen by what its neighbours left behind.
    """
    trim_threshold, mmap_threshold, much = -1, -3, 2**30
    libc = ctypes.CDLL(None)
    for option in (trim_threshold, mmap_threshold):
        libc.mallopt(option, much)


def cases() -> Iterator[Case]:
    """Yield every comparison."""
    keep_memory()
    for batch, goal in ADDED.items():
        label = f"MiniLM, {batch[0]} x {batch[1]} tokens"
        steps = embedded_contenders(batch)
        names = ("ours", "portable", "plain LoRA", "peft")
        yield Case(
            "added cost", label, steps,
            against="plain LoRA", goal=goal, at_most=True, rounds=ROUNDS[batch],
            minus={name: (f"step of {name}", "floor") for name in names},
        )  # fmt: skip
        whole = {"ours": steps["step of portable"], "plain LoRA": steps["step of plain LoRA"]}
        yield Case(
            "training step, portable", label, whole,
            against="plain LoRA", goal=1.03, at_most=True, rounds=ROUNDS[batch],
        )  # fmt: skip
    for batch in BATCHES:
        yield Case(
            "training step",
            f"MiniLM, {batch[0]} x {batch[1]} tokens",
            contenders(batch),
            against="plain LoRA",
            goal=1.0,
            at_most=True,
            rounds=ROUNDS[batch],
        )


def parts(batch: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Return the parts of what our adapters add to a step, each without the others."""
    models = adapted()
    model = models["ours"].train()
    step = steps_of({"ours": model}, batch, embedded=True)["ours"]
    step()
    adapter = model.base_model.adapters["default"]
    layers = list(adapter.layers.values())
    As, Bs = adapter.factors()
    inputs = [torch.randn(*batch, A.shape[1], requires_grad=True) for A in As]
    outputs = [torch.randn(*batch, len(B)) for B in Bs]
    hidden = torch.empty(*batch, RANK)
    trained = {name: [p for p in each.parameters() if p.requires_grad]
               for name, each in models.items()}  # fmt: skip
    optimizers = {}
    for name, found in trained.items():
        for each in found:
            each.grad = torch.randn_like(each)
        optimizers[name] = torch.optim.AdamW(found, 1e-4, fused=True)
    operands = [
        (layer.lora_A["default"], layer.lora_E["default"], layer.lora_B["default"])
        for layer in layers
    ]

    def every(function: Callable[..., object]) -> Callable[[], object]:
        return lambda: [function(*each) for each in zip(layers, inputs, outputs, operands,
                                                       strict=True)]  # fmt: skip

    def frozen(layer: Any, x: Any, grad: Any, _: Any) -> None:
        torch.autograd.grad(layer.base_layer(x), x, grad)

    def whole(layer: Any, x: Any, grad: Any, factors: Any) -> None:
        torch.autograd.grad(layer(x), (x, *factors), grad)

    def at_hand(layer: Any, x: Any, grad: Any, factors: Any) -> None:
        base = layer.base_layer
        output = adapted_linear(x, base.weight, base.bias, *factors, 1.0)
        torch.autograd.grad(output, (x, *factors), grad)

    def unchecked(layer: Any, x: Any, grad: Any, factors: Any) -> None:
        others = ((1.0, 0.0, 0), False, layer.base_layer.weight, layer.base_layer.bias)
        torch.autograd.grad(apply_node(None, x, *factors, others), (x, *factors), grad)

    def kernels(layer: Any, x: Any, grad: Any, factors: Any) -> None:
        x = x.detach()
        output = torch.nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias)
        _cpu.svd_linear_forward(output, x, *factors, 1.0, 0.0, 0, hidden, output)
        grad_x = grad @ layer.base_layer.weight
        outputs = (grad_x, *map(torch.empty_like, factors))
        _cpu.svd_linear_backward(grad, x, hidden, *factors, 1.0, 0.0, 0, *outputs, True)

    return {
        "ours": step,
        "layers alone, forward and backward": every(frozen),
        "the same with the kernels of the core, without autograd": every(kernels),
        "the same as adapted layers": every(whole),
        "the same, without looking for the operands": every(at_hand),
        "the same, without any check before the node": every(unchecked),
        "penalty with its gradient": lambda: torch.autograd.grad(
            model.orthogonality_penalty(), (*As, *Bs)
        ),
        "update and allocation": lambda: model.base_model.adapters["default"].allocator.step(1),
        "AdamW of ours": optimizers["ours"].step,
        "AdamW of plain LoRA": optimizers["plain LoRA"].step,
    }


def main() -> None:
    """Print the times of the parts."""
    keep_memory()
    for batch in ADDED:
        print(f"\n| MiniLM, {batch[0]} x {batch[1]} tokens | µs |\n|---|---:|")
        case = Case("parts", "", parts(batch), against="ours", rounds=25)
        for part, microseconds in run(case).medians.items():
            print(f"| {'whole step' if part == 'ours' else part} | {microseconds:.0f} |")


if __name__ == "__main__":
    main()
