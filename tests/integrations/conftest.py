"""Install the bridge to PEFT for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def installed() -> Iterator[None]:
    """Models that PEFT makes are bridged until the test ends."""
    from adalora_core.integrations.peft import install, uninstall

    install()
    yield
    uninstall()
