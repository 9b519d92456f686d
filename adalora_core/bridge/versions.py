"""Check that the bridge, which replaces PEFT's methods, fits the installed release."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from adalora_core.floor.errors import AdaLoraError, MissingExtraError

TRIED = (
    ("0.18.1", "5.5.4"),
    ("0.19.1", "5.17.0"),
    ("0.20.0", "5.23.0"),
    ("0.21.2", "5.23.0"),
    ("0.21.2", "5.25.0"),
)
"""Releases of PEFT and of transformers that the tests of the bridge run with.

With each PEFT the newest transformers whose `add_adapter` accepts it, and the newest of all, which
asks for a later PEFT.
"""

_MODEL = "peft.tuners.adalora.model:AdaLoraModel."
_LAYER = "peft.tuners.adalora.layer:"
_TOUCHED: dict[str, tuple[str, ...]] = {
    "peft:AdaLoraConfig.__post_init__": (),
    "peft:PeftModel.__init__": ("model", "peft_config", "adapter_name"),
    "peft:PeftModel.forward": (),
    "peft:PeftModel.from_pretrained": ("model", "model_id", "adapter_name", "is_trainable"),
    "peft:PeftModel.load_adapter": ("model_id", "adapter_name", "is_trainable"),
    "peft:PeftModel.save_pretrained": ("save_directory", "selected_adapters", "is_main_process"),
    f"{_LAYER}AdaLoraLayer._move_adapter_to_device_of_base_layer": ("adapter_name", "device"),
    f"{_LAYER}AdaLoraLayer.reset_lora_parameters": ("adapter_name",),
    f"{_LAYER}RankAllocator.__init__": ("model", "peft_config", "adapter_name"),
    f"{_LAYER}RankAllocator.reset_ipt": (),
    f"{_LAYER}SVDLinear.forward": ("x",),
    f"{_MODEL}__init__": ("model", "config", "adapter_name"),
    f"{_MODEL}_create_and_replace": ("adapter_name", "target"),
    f"{_MODEL}_enable_peft_forward_hooks": (),
    f"{_MODEL}_unload_and_optionally_merge": ("merge",),
    f"{_MODEL}active_adapters": (),
    f"{_MODEL}forward": (),
    f"{_MODEL}inject_adapter": ("model", "adapter_name"),
    f"{_MODEL}merge_adapter": ("adapter_names", "safe_merge"),
    f"{_MODEL}resize_modules_by_rank_pattern": ("rank_pattern", "adapter_name"),
    f"{_MODEL}resize_state_dict_by_rank_pattern": ("rank_pattern", "state_dict", "adapter_name"),
    f"{_MODEL}unmerge_adapter": (),
    f"{_MODEL}update_and_allocate": ("global_step",),
    "peft.tuners.tuners_utils:BaseTuner": (),
    "peft.tuners.tuners_utils:BaseTunerLayer": (),
    "peft.tuners.tuners_utils:onload_layer": ("layer",),
    "peft.utils:ModulesToSaveWrapper": (),
}
"""What the bridge replaces or calls in PEFT, and the parameters that it counts on."""


class UnsupportedPeftError(AdaLoraError, ImportError):
    """The bridge does not fit the installed release of PEFT."""


def require_supported_peft() -> None:
    """Raise if PEFT lacks what the bridge replaces; warn of a release that was not tried."""
    try:
        found = version("peft")
    except PackageNotFoundError:
        raise MissingExtraError("peft", "peft", "the bridge to PEFT's models") from None
    import_module("peft")  # an error of its own import is not a missing member
    if lacks := missing():
        raise UnsupportedPeftError(
            f"adalora_core.bridge: PEFT {found} lacks what the bridge replaces: "
            f"{', '.join(lacks)}; install another release, or use adalora_core.get_peft_model, "
            "which trains one adapter without PEFT"
        )
    tried = dict.fromkeys(_minor(release) for release, _ in TRIED)
    if _minor(found) not in tried:
        warnings.warn(
            f"adalora_core.bridge: the bridge was not tried with PEFT {found}, but with "
            f"{', '.join(tried)}; it has all that the bridge replaces, so the bridge is used",
            stacklevel=2,
        )


def missing() -> list[str]:
    """Return the members and parameters that the bridge needs and PEFT does not have."""
    lacks = []
    for place, parameters in _TOUCHED.items():
        module, _, path = place.partition(":")
        try:
            member: Any = import_module(module)
            for name in path.split("."):
                # ms-swift keeps what it wraps under a second name.
                member = getattr(member, f"{name}_origin", None) or getattr(member, name)
        except (ImportError, AttributeError):
            lacks.append(f"{module}.{path}")
            continue
        known = inspect.signature(member).parameters if parameters else {}
        lacks += [f"{module}.{path}({name})" for name in parameters if name not in known]
    return lacks


def _minor(release: str) -> str:
    return ".".join(release.split(".")[:2])
