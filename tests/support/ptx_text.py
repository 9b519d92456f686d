"""Find the kernels in what nvcc generates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from programs import output_of

TEXTS = ("80", "120")
"""nvcc generates two: that of compute capability 7.5 to 9.0, and that of 10.0 and 12.0."""

OPS = ("importance", "orthogonality", "selection", "svd_linear")


class Kernel(NamedTuple):
    """A kernel of a text: what it is called, whose it is, and where its body is."""

    name: str
    op: str
    begin: int
    end: int

    @property
    def template(self) -> str:
        return re.sub(r"(?<=_kernel).*", "", self.name)


@cache
def text_of(cuda_ptx: Path, variant: str) -> str:
    """Return a text of the program of tests/csrc/ptx."""
    return output_of(cuda_ptx, variant, "--print", "1")


def kernels_of(text: str) -> Iterator[Kernel]:
    """Yield the kernels; their names are as the compiler mangles them, without the file's part."""
    for found in re.finditer(r"\.entry (\S+?)\(.*?\n}", text, re.DOTALL):
        # The compiler names a file with a digest of how it was compiled.
        name = re.sub(r"\d+_GLOBAL__N__[0-9a-f]+_\d+_", "", found[1])
        (op,) = (each for each in OPS if each in name)
        plain = name.partition("_cu_")[2][8:].lstrip("0123456789")
        yield Kernel(plain, op, found.end(1), found.end())
