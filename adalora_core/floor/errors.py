"""Define the errors that any layer may raise; nothing of the package is imported here."""

from __future__ import annotations

INSTALL = "in the clone of this project run pip install '.[{}]'"
"""How an extra is installed; tools/install_forms.py switches it with the first release."""


class AdaLoraError(Exception):
    """Base of the errors that this package defines."""


class PolicyError(AdaLoraError, ValueError):
    """A policy, a JSON Schema on top of the contract, cannot be used; the message gives why."""


class CheckpointError(AdaLoraError, ValueError):
    """A saved adapter is missing, damaged, foreign or for another model; nothing was changed."""


class TargetError(AdaLoraError, ValueError):
    """A module that was asked for cannot be adapted, or no module matches."""


class ExpressionError(TargetError):
    """A regular expression takes too long; the message names the setting, nothing was changed."""

    hint = "write it with fewer repetitions, and without repetitions inside repetitions"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}; {self.hint}")
        self.field = field
        self.problem = problem


class ParallelismError(AdaLoraError, RuntimeError):
    """The model is divided over processes in a way that trains wrongly; nothing was changed."""


class RankDisagreementError(ParallelismError):
    """Processes hold different adapters or allocator states; the message names processes."""


class CriterionError(AdaLoraError, ValueError):
    """A function that scores triplets returned something else."""


class BackendUnavailableError(AdaLoraError, ImportError):
    """A compiled backend is needed and missing; the message gives the reason and a remedy."""


class MissingExtraError(AdaLoraError, ImportError):
    """An optional dependency is missing; the message names it and the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}; {INSTALL.format(extra)}")


class RunError(AdaLoraError, RuntimeError):
    """Going on can only waste the training run; the message begins with the code of a rule."""


class RunWarning(UserWarning):
    """A training run is probably not what it seems to be; begins with the code of a rule."""
