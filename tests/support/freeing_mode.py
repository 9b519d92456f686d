"""Call every binding while code that torch may call frees the memory of the arguments.

Run as a program: it prints how many calls there were. A crash ends the process.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import binding_arguments
import torch
from torch.overrides import TorchFunctionMode

from adalora_core import _cpu

NEVER = -1
SIZE = 4096
"""Large enough that the memory is given back to the system when it is freed."""


class FreeingMode(TorchFunctionMode):
    """Free the memory of `victims` at the call `place`, counted from 0."""

    def __init__(self, victims: list[torch.Tensor], place: int) -> None:
        super().__init__()
        self.victims = victims
        self.place = place
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Free at the right moment, then do what was asked."""
        self.seen.append(func)
        if len(self.seen) == self.place + 1:
            free(self.victims)
        return func(*args, **(kwargs or {}))


def free(tensors: list[torch.Tensor]) -> None:
    """Take the memory of `tensors` away."""
    for each in tensors:
        each.untyped_storage().resize_(0)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in arguments, gradients included."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, torch.Tensor):
        yield value
        if value.is_leaf and value.grad is not None:
            yield value.grad


def large_calls() -> dict[str, list[Any]]:
    """Return arguments whose memory is given back to the system when it is freed."""
    x, output = torch.ones(SIZE, SIZE // 2), torch.ones(SIZE, SIZE // 2)
    A, E, B = torch.ones(4, SIZE // 2), torch.ones(4, 1), torch.ones(SIZE // 2, 4)
    hidden = torch.ones(SIZE, 4)
    big = [torch.ones(4, SIZE * 64), torch.ones(4, 1), torch.ones(SIZE, 4)]
    for each in big:
        each.grad = torch.ones_like(each)
    averages = [[torch.zeros_like(each) for each in big] for _ in range(2)]
    return {
        "svd_linear_forward": [output, x, A, E, B, 0.5, 0.0, 0, hidden, torch.ones_like(output)],
        "update_importance": [big, None, *averages, 0.5, 0.5, None],
    }


def call_under_mode(name: str, arguments: list[Any], place: int) -> int:
    """Make one call; return how many functions of torch the mode saw."""
    binding = getattr(_cpu, name.partition(" ")[0])
    mode = FreeingMode(list(tensors_in(arguments)), place)
    with mode, contextlib.suppress(TypeError, ValueError):
        binding(*arguments)
    return len(mode.seen)


def call_with_freeing_warning() -> bool:
    """Return whether a call is refused whose last parameter is not a leaf: its `.grad` warns."""
    A, E, B = large_calls()["update_importance"][0]
    parameters = [A, E, B.requires_grad_() * 1]
    averages = [torch.zeros(sum(each.numel() for each in parameters)) for _ in range(2)]
    warned = []

    def show(*_: Any, **__: Any) -> None:
        warned.append(1)
        free([A, *averages])

    warnings.showwarning = show
    warnings.simplefilter("always")
    try:
        _cpu.update_importance(parameters, None, *averages, 0.5, 0.5, None)
    except ValueError:
        return bool(warned)
    return False


def main() -> None:
    """Free at each call that a mode sees, in every binding."""
    _cpu.connect()
    count = 0
    for calls in (binding_arguments.of_the_cpu, large_calls):
        for name in calls():
            for place in range(NEVER, call_under_mode(name, calls()[name], NEVER)):
                call_under_mode(name, calls()[name], place)
                count += 1
    assert call_with_freeing_warning()
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main()
