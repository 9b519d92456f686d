"""Run PEFT's AdaLoRA models with the ops and the allocator of this package, without PEFT's faults.

`attach(model)` bridges one model that PEFT has made, or a module that PEFT has injected adapters
into; `install()` bridges all models that PEFT makes afterwards. Classes, parameter names, files and
methods stay PEFT's; `detach` and `uninstall` undo the bridge.
"""

from __future__ import annotations

from adalora_core.bridge.versions import require_supported_peft

require_supported_peft()

from adalora_core.bridge.attaching import attach, detach, install, is_attached, uninstall  # noqa: E402 - after the check of PEFT's version
from adalora_core.bridge.configurations import from_peft_config, to_peft_config  # noqa: E402 - same

__all__ = [
    "attach", "detach", "from_peft_config", "install", "is_attached", "to_peft_config", "uninstall",
]  # fmt: skip
