"""Check that the bridge, which replaces PEFT's methods, supports the installed release."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from adalora_core.errors import AdaLoraError, MissingExtraError

SUPPORTED = ("0.21",)


class UnsupportedPeftError(AdaLoraError, ImportError):
    """The bridge does not support the installed release of PEFT."""


def require_supported_peft() -> None:
    """Raise unless a supported release of PEFT is installed.

    Raises:
        MissingExtraError: PEFT is not installed.
        UnsupportedPeftError: another release is installed.
    """
    try:
        found = version("peft")
    except PackageNotFoundError as error:
        raise MissingExtraError("peft", "peft", "the bridge to PEFT's models") from error
    if ".".join(found.split(".")[:2]) not in SUPPORTED:
        raise UnsupportedPeftError(
            f"adalora_core.integrations.peft: PEFT {found} is not supported, only "
            f"{', '.join(f'{each}.x' for each in SUPPORTED)}; install a supported release, or use "
            "adalora_core.get_peft_model, which reads and writes PEFT's files without PEFT"
        )
