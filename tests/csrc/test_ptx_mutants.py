"""Change one instruction of what nvcc generates, at random: the tests of the op notice it."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest
from programs import output_of, run
from ptx_text import TEXTS, Kernel, kernels_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.nightly

SEED = 26
MUTANTS = 300
MOST_SURVIVORS = 14
"""As many as there are now; there may only be fewer, and 15 are a twentieth."""
MOST_UNREAD = 4
"""These survive for the reasons of others: one entry, a key computed again, and the same number."""
EQUIVALENT = {
    "120 update_kernelINS_8BFloat16ELb1E line 627: @%p86 bra $L__BB6_42; -> ": "the next "
    "check says as well that no column is left",
    "120 update_kernelINS_7Float16ELb1E line 951: mov.u32 %r443, %r304; -> ": "the same already",
    "80 gradient_kernelINS_7Float16E line 24: mov.u32 %r244, 0; -> ": "zero there already",
    "80 mask_kernelENS1_13MaskArgumentsE line 33: @%p3 bra $L__BB0_6; -> ": "one entry is found",
    "80 select_kernelId line 92: @%p8 bra $L__BB1_14; -> ": "computes a key that is kept again",
    "120 unfold_kernelINS_8BFloat16ES3_ line 58: mov.f32 %f103, 0f00000000; -> ": "zero already",
    "120 drop_kernelINS_7Float16E line 121: mov.b16 %rs69, 0; -> mov.b16 %rs69, 1;": "past the end "
    "of a row, where nothing is written",
    "80 mean_kernelId line 91: setp.ne.s32 %p13, %r30, 0; -> setp.ne.s32 %p13, %r30, 1;": "every "
    "lane has the sum of its warp",
    "120 gram_kernelINS_8BFloat16E line 129: mov.b32 %r115, 32; -> mov.b32 %r115, 33;": "divided "
    "by a power of two from 4 on",
    "80 unfold_kernelIfd line 234: bra.uni $L__BB17_30; -> ": "goes on to a row of B past the last",
}
"""Survivors with the same results as the kernel, and why."""

TURNED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
STATEMENT = re.compile(r"^(?![.$])[^;{}\n]+;$", re.MULTILINE)
NUMBER = re.compile(r"(?<=[ +,])-?\d+(?=[],;])")


class Mutant(NamedTuple):
    """A text with one instruction that is another."""

    variant: str
    kernel: Kernel
    text: str
    change: str


def changed(statement: str, generator: random.Random) -> str | None:
    """Return another instruction: none, or with another constant or the opposite comparison."""
    kinds = ["" if "ret;" not in statement else None]
    if "bar.sync" not in statement and (numbers := list(NUMBER.finditer(statement))):
        number = generator.choice(numbers)
        other = str(int(number[0]) + 1)
        kinds.append(statement[: number.start()] + other + statement[number.end() :])
    if comparison := re.search(r"setp\.(\w\w)\.", statement):
        start, end = comparison.span(1)
        kinds.append(statement[:start] + TURNED[comparison[1]] + statement[end:])
    return generator.choice(kinds)


def mutants(cuda_ptx: Path) -> Iterator[Mutant]:
    """Yield the mutants, spread over the templates and both texts."""
    templates: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for variant in TEXTS:
        for kernel in kernels_of(text_of(cuda_ptx, variant)):
            templates[variant, kernel.template].append(kernel)
    for number in range(MUTANTS):
        # Each has numbers of its own: a kernel that becomes another changes its mutants alone.
        generator = random.Random(f"{SEED} {number}")  # noqa: S311
        (variant, _), kernels = list(templates.items())[number % len(templates)]
        kernel, text = generator.choice(kernels), text_of(cuda_ptx, variant)
        statements = list(STATEMENT.finditer(text, kernel.begin, kernel.end))
        other = None
        while other is None:
            statement = generator.choice(statements)
            other = changed(statement[0], generator)
        whole = text[: statement.start()] + other + text[statement.end() :]
        line = text.count("\n", kernel.begin, statement.start())
        name = kernel.name.partition("EEvNS")[0]
        change = f"{variant} {name} line {line}: {statement[0]} -> {other}"
        yield Mutant(variant, kernel, whole, change)


@cache
def instructions_of(cuda_ptx: Path, variant: str, op: str) -> int:
    return int(output_of(cuda_ptx, variant, "--op", op, timeout=600).split()[-2])


def test_most_mutants_are_noticed(cuda_ptx: Path, tmp_path: Path) -> None:
    survivors = []
    path = tmp_path / "mutant.ptx"
    for mutant in mutants(cuda_ptx):
        path.write_text(mutant.text, "utf-8")
        limit = 3 * instructions_of(cuda_ptx, mutant.variant, mutant.kernel.op)
        command = [cuda_ptx, "0", "--op", mutant.kernel.op, "--limit", limit, "--text", path]
        if run(*command, timeout=600).returncode == 0:
            survivors.append(mutant.change)
    assert len(survivors) <= MOST_SURVIVORS, "\n".join(survivors)
    unargued = set(survivors) - EQUIVALENT.keys()
    assert len(unargued) <= MOST_UNREAD, "\n".join(unargued)
