"""Compare bfloat16 without its instructions: torch and ours held to AVX2.

`bench_core.py` runs this part in a process of its own, since torch and the core read
`ENVIRONMENT` once, when they are loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench_svd_linear import low_precision_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Case

ENVIRONMENT = {
    "ADALORA_CORE_ISA": "x86-64-v3",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def cases() -> Iterator[Case]:
    """Yield every comparison of this part."""
    missing = {name for name, value in ENVIRONMENT.items() if os.environ.get(name) != value}
    if missing:
        raise SystemExit(f"bench_svd_linear_avx2: set {ENVIRONMENT}; missing {sorted(missing)}")
    yield from low_precision_cases("svd_linear, AVX2")
