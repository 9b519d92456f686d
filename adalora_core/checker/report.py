"""Turn a checked document into a text, an exception, warnings or a typed configuration."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from adalora_core.config.findings import Checked, ConfigError, ConfigWarning

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.config.fields.block import Block
    from adalora_core.config.model import AdaLoraConfig


@dataclass(frozen=True)
class Report(Checked):
    """All findings on one document, with methods to render them and to raise."""

    @cached_property
    def config(self) -> AdaLoraConfig | None:
        """The typed configuration without unknown keys; None if there is an error.

        In Python also None if there are several calls, or values that only a run can tell.
        """
        if self.block is None or not self.ok or (self.has_script and not self.is_whole):
            return None
        from adalora_core.config.fields.block import Block, BlockOptions
        from adalora_core.config.model import AdaLoraConfig

        block = Block(self.block, options=BlockOptions(self.runtime))
        return AdaLoraConfig.from_checked(block.as_read, self.runtime)

    def require_config(self) -> AdaLoraConfig:
        """Return the typed configuration.

        Raises:
            ConfigError: the report has an error, or the document holds no configuration.
        """
        config = self.config
        if config is None:
            raise self._error()
        return config

    def render(self, format: str = "full") -> str:  # noqa: A002 - the name of the option
        """Return the report as text in a format of `adalora check --output-format`.

        Raises:
            ValueError: the format is unknown.
        """
        from adalora_core.checker.reports import Outcome, render

        return render(Outcome((self,)), format)

    def raise_if_errors(self) -> None:
        """Raise `ConfigError` with the whole report if a finding is an error."""
        if not self.ok:
            raise self._error()

    def _error(self) -> ConfigError:
        text = self.render("full").rstrip("\n")
        if self.ok:
            # Code without errors that does not give one whole configuration.
            text = (
                "expected one call of AdaLoraConfig whose values are all written in the file; use "
                f"check_config for other code\n{text}"
            )
        return ConfigError(text, self)

    def warn(self, stacklevel: int = 2) -> None:
        """Issue the findings of severity warning through `warnings`, as `ConfigWarning`."""
        for diagnostic in self.warnings:
            warnings.warn(
                f"{diagnostic.message} ({diagnostic.code})", ConfigWarning, stacklevel + 1
            )


@dataclass(frozen=True, slots=True)
class Examined:
    """A document, the configurations in it, and the report on them."""

    document: Document
    blocks: tuple[Block, ...]
    report: Report
