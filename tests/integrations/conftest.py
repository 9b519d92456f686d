"""Install the bridge to PEFT for one test, and choose the door through which it makes models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def installed() -> Iterator[None]:
    """Models that PEFT makes are bridged until the test ends."""
    from adalora_core.bridge import install, uninstall

    install()
    yield
    uninstall()


@pytest.fixture(params=["own", "import", "attach"])
def door(request: pytest.FixtureRequest) -> str:
    """Make the models of a test through each door of the package; a key of `LIBRARIES`."""
    if request.param == "import":
        request.getfixturevalue("installed")
    return {"own": "adalora_core", "import": "peft", "attach": "attached"}[request.param]
