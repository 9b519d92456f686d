"""PEFT's own AdaLoRA models with our ops, our allocator and without PEFT's faults.

`attach(model)` serves one model that PEFT has made, `install()` all that it makes from then on.
Classes, parameter names, files and methods stay PEFT's; `detach` and `uninstall` undo it.
"""

from __future__ import annotations

from adalora_core.integrations.peft.versions import require_supported_peft

require_supported_peft()

from adalora_core.integrations.peft.bridge import (  # noqa: E402 - not before PEFT is known
    attach,
    detach,
    install,
    is_attached,
    uninstall,
)
from adalora_core.integrations.peft.config import (  # noqa: E402 - same
    from_peft_config,
    to_peft_config,
)

__all__ = [
    "attach",
    "detach",
    "from_peft_config",
    "install",
    "is_attached",
    "to_peft_config",
    "uninstall",
]
