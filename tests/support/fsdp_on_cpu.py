"""The one place where tests make accelerate apply FSDP on CPUs, which it ignores there.

accelerate looks at FSDP only where the processes have GPUs. `force_fsdp` sets the distributed type
that it would set there, and everything after that is accelerate's and Trainer's own code, on gloo.
docs/scaling.md names what stays untested in this way.
"""

from __future__ import annotations

import functools
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


def force_fsdp() -> None:
    """Let accelerate apply an FSDP plugin in the processes of this run."""
    make = AcceleratorState.__init__

    @functools.wraps(make)
    def with_plugin(state: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        make(state, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
            # As accelerate does for GPUs.
            if state.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.fsdp_plugin = fsdp_plugin
            state.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = with_plugin
