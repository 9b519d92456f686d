"""Which releases of PEFT the bridge knows: it replaces methods, so it has to know them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from adalora_core.errors import AdaLoraError, MissingExtraError

SUPPORTED = ("0.21",)


class UnsupportedPeftError(AdaLoraError, ImportError):
    """The installed PEFT is one that the bridge does not know."""


def require_supported_peft() -> None:
    """Raise unless a PEFT is installed that the bridge was written for.

    Raises:
        MissingExtraError: there is none.
        UnsupportedPeftError: it is another release.
    """
    try:
        found = version("peft")
    except PackageNotFoundError as error:
        raise MissingExtraError("peft", "peft", "the bridge to PEFT's models") from error
    if ".".join(found.split(".")[:2]) not in SUPPORTED:
        raise UnsupportedPeftError(
            f"adalora_core.integrations.peft: PEFT {found} is not supported, only "
            f"{', '.join(f'{each}.x' for each in SUPPORTED)}; install one of them, or use "
            "adalora_core.get_peft_model, which reads and writes PEFT's files without PEFT"
        )
