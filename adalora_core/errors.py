"""Errors that every layer may raise; the bottom of the package, so it imports nothing of it."""

from __future__ import annotations


class AdaLoraError(Exception):
    """Base of the errors that this package defines."""


class PolicyError(AdaLoraError, ValueError):
    """A policy, a JSON Schema on top of the contract, cannot be used; the text says why."""


class CheckpointError(AdaLoraError, ValueError):
    """A saved adapter is missing, damaged, foreign or for another model; nothing was changed."""


class TargetError(AdaLoraError, ValueError):
    """A module that was asked for cannot be adapted, or no module matches."""


class ParallelismError(AdaLoraError, RuntimeError):
    """The model is divided over processes in a way that would train wrongly; nothing changed."""


class RankDisagreementError(AdaLoraError, RuntimeError):
    """Processes that must hold the same allocator state do not; the text names them."""


class BackendUnavailableError(AdaLoraError, ImportError):
    """A compiled backend is needed and is not there; the text says why and what to do."""


class MissingExtraError(AdaLoraError, ImportError):
    """An optional dependency is needed: the text names it and the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}; "
            f"install it with: pip install 'adalora-core[{extra}]'"
        )
