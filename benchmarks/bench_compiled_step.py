"""Compare training steps of a compiled MiniLM: ours and PEFT's, and how long compiling takes.

python benchmarks/bench_core.py compiled_step

Penalty and allocation are part of a step, and stay outside of the compiled model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from bench_training_step import ROUNDS, adapted, keep_memory, minilm, steps_of, training_step
from measure import Case
from torch._inductor.utils import fresh_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCHES = {(8, 16): 1.02, (24, 48): 1.0, (16, 128): 1.0}
"""Goals for our compiled step beside plain LoRA's, by batch."""


def compiled(model: Any) -> Any:
    """Return `model`, to be compiled at its first step."""
    return torch.compile(model)


def contenders(batch: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Return compiled steps of each adapter and of the frozen model, and our and its eager step."""

    def step(name: str, wrap: Callable[[Any], Any]) -> Callable[[], object]:
        if name == "frozen":
            frozen = wrap(minilm().requires_grad_(False))
            return training_step(frozen, batch, None, embedded=True)
        return steps_of({name: wrap(adapted()[name])}, batch, embedded=True)[name]

    names = ("ours", "plain LoRA", "peft", "frozen")
    found = {name: step(name, compiled) for name in names}
    return found | {
        f"{name}, eager": step(name, lambda model: model) for name in ("ours", "frozen")
    }


def first_steps(batch: tuple[int, int], *, cold: bool) -> dict[str, Callable[[], object]]:
    """Return the first step of a process, with an empty cache of compiled code or a full one."""

    def first(name: str) -> Callable[[], None]:
        def call() -> None:
            torch.compiler.reset()
            steps_of({name: compiled(adapted()[name])}, batch)[name]()

        def call_without_cache() -> None:
            with fresh_cache():
                call()

        return call_without_cache if cold else call

    return {name: first(name) for name in ("ours", "plain LoRA", "peft")}


def cases() -> Iterator[Case]:
    """Yield every comparison."""
    keep_memory()
    for batch, goal in BATCHES.items():
        label = f"MiniLM, {batch[0]} x {batch[1]} tokens"
        torch.compiler.reset()  # else a second shape is compiled for every shape
        steps = contenders(batch)
        yield Case(
            "compiled step", label, steps,
            against="plain LoRA", goal=goal, at_most=True, rounds=ROUNDS[batch],
        )  # fmt: skip
        yield Case(
            "compiled step, eager", label, {name: steps[name] for name in ("ours", "ours, eager")},
            against="ours, eager", goal=1.0, at_most=True, rounds=ROUNDS[batch],
        )  # fmt: skip
        # What is left of both if the frozen model is as fast compiled as it is not.
        added = {"ours": ("compiled", "frozen"), "not compiled": ("ours, eager", "frozen, eager")}
        yield Case(
            "compiled step, added", label, {"compiled": steps["ours"], **{
                name: steps[name] for name in ("frozen", "ours, eager", "frozen, eager")}},
            against="not compiled", at_most=True, rounds=ROUNDS[batch], minus=added,
        )  # fmt: skip
    for kind in ("cold", "warm"):
        yield Case(
            f"first compiled step, {kind}", "MiniLM, 8 x 16 tokens",
            first_steps((8, 16), cold=kind == "cold"),
            against="plain LoRA", at_most=True,
            rounds=3 if kind == "cold" else 7, warm_up=kind == "warm",
        )  # fmt: skip
