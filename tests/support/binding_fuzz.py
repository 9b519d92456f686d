"""Calls every binding with wrong arguments; run as a script, `binding_fuzz.py SEED ROUNDS [FILE]`.

FILE is the CUDA module with emulated kernels; without it the module of the CPU is called.

Starts from valid arguments, replaces one or two by something nasty, and demands a result or a
TypeError or ValueError that names op and argument. A crash ends the process, which the test sees.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import binding_arguments
import torch
from module_files import module_of

from adalora_core import _cpu

OPS = (
    "svd_linear|update_importance|select_triplets|apply_mask|orthogonality|add_orthogonality"
    "|connect|isa_name|thread_count|score_room|gram_room|fold_factors|unfold_gradients|drop"
)
NAMED = re.compile(rf"^({OPS})\w*: \w[\w ]*(\[\d+\])? must be .+, got .+", re.DOTALL)


class Strange(torch.Tensor):
    """A subclass, which the core must not read."""


class Module(NamedTuple):
    """What is called, and what its bindings accept."""

    core: Any
    valid_arguments: Callable[[], dict[str, list[Any]]]

    def binding(self, name: str) -> Any:
        """Return the function that `name` of the valid arguments stands for."""
        return getattr(self.core, name.partition(" ")[0])


def nasty(chance: random.Random, like: Any) -> Any:
    """Return something that stands badly in the place of `like`."""
    if isinstance(like, list):
        return nasty_list(chance, like)
    makers = [
        lambda: None,
        lambda: "text",
        object,
        lambda: chance.choice([-1, 0, 2**31, -(2**63), 2**63, 10**30]),
        lambda: chance.choice([float("nan"), float("inf"), -1.0, 1e308]),
        list,
        lambda: torch.Tensor,
        lambda: torch.randn([chance.choice([0, 1, 2, 3, 7]) for _ in range(chance.randrange(5))]),
        lambda: torch.zeros(3, 7, dtype=chance.choice([torch.int64, torch.bool, torch.complex64])),
        lambda: torch.zeros(3, 7, dtype=chance.choice([torch.float64, torch.float16])),
        lambda: torch.empty(3, 7, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3, 7), 0.1, 0, torch.qint8),
        lambda: torch.zeros(3, 7).as_subclass(Strange),
        lambda: torch.zeros(1).expand(2**40, 2**20),
        lambda: torch.zeros(1).expand(3, 7),
        lambda: torch.zeros(1).as_strided((2**31, 2**31), (0, 0)),
        lambda: torch.zeros(2, 2).to_mkldnn(),
        freed,
    ]
    if is_plain(like):
        makers += [
            lambda: like.T if like.dim() == 2 else like[None],
            lambda: torch._neg_view(like),
            lambda: torch.zeros_like(like, dtype=torch.float64),
            lambda: like[..., ::2],
            lambda: like.new_zeros(1).expand(like.shape),
            lambda: torch.zeros(like.shape, dtype=torch.complex64).conj().imag,
        ]
    return chance.choice(makers)()


def is_plain(value: Any) -> bool:
    """Return whether torch can take views of `value`; a second replacement may meet anything."""
    plain = type(value) is torch.Tensor and value.device.type == "cpu" and value.dim() > 0
    if not plain or value.layout is not torch.strided or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() > 0 and value.numel() < 1000 and not value.is_neg()


def freed() -> torch.Tensor:
    """Return a tensor whose storage was taken away."""
    tensor = torch.zeros(3, 7)
    tensor.untyped_storage().resize_(0)
    return tensor


def nasty_list(chance: random.Random, like: list[Any]) -> Any:
    """Return a list with one wrong item, of a wrong length, or no list at all."""
    changed = list(like)
    choice = chance.randrange(6)
    if choice == 0 and changed:
        changed.pop(chance.randrange(len(changed)))
    elif choice == 1:
        changed.append(nasty(chance, None))
    elif choice == 2:
        return nasty(chance, None)
    elif choice == 3 and len(changed) > 1:
        changed[0] = changed[1]
    elif changed:
        place = chance.randrange(len(changed))
        changed[place] = nasty(chance, changed[place])
    return changed


def call(module: Module, chance: random.Random) -> str:
    """Make one call; return what came of it."""
    arguments = module.valid_arguments()
    name = chance.choice(sorted(arguments))
    given = arguments[name]
    for _ in range(chance.choice([1, 1, 1, 2])):
        place = chance.randrange(len(given) + 1)
        if place == len(given):
            given.append(nasty(chance, None))
        elif chance.random() < 0.1:
            # memory shared with another argument
            given[place] = given[chance.randrange(len(given))]
        else:
            given[place] = nasty(chance, given[place])
    if given and chance.random() < 0.02:
        given.pop()
    named = {"scores": None} if chance.random() < 0.02 else {}
    try:
        module.binding(name)(*given, **named)
    except (TypeError, ValueError) as error:
        text = str(error)
        assert NAMED.match(text), f"{name} (is it in OPS?): unclear message: {text}"
        return "refused"
    return "accepted"


def main(seed: int, rounds: int, *file: str) -> None:
    """Check that valid arguments pass, then fuzz."""
    core, arguments_of = (
        (module_of(*file), binding_arguments.of_cuda)
        if file
        else (_cpu, binding_arguments.of_the_cpu)
    )
    module = Module(core, arguments_of)
    core.connect()
    every = {name for name in dir(core) if callable(getattr(core, name)) and name[0] != "_"}
    valid = module.valid_arguments()
    of_the_emulation = {"connect", "take_launch_count"} - {*valid}
    tested = {module.binding(name).__name__ for name in valid}
    different = tested ^ (every - of_the_emulation)
    assert not different, f"add to valid_arguments, or remove there: {sorted(different)}"
    for name, arguments in valid.items():
        module.binding(name)(*arguments)
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    outcomes = [call(module, chance) for _ in range(rounds)]
    sys.stdout.write(f"{outcomes.count('refused')} {outcomes.count('accepted')}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
