"""Import paths that earlier releases documented lead to the module of today itself."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from adalora_core.floor import module_aliases

PACKAGE = Path(module_aliases.__file__).parents[1]
DOCUMENTED = [
    "adalora_core.cli",
    "adalora_core.contract",
    "adalora_core.contract.fields.block",
    "adalora_core.contract.fields.table",
    "adalora_core.contract.fields.value_kinds",
    "adalora_core.contract.findings",
    "adalora_core.contract.pipeline.assembly",
    "adalora_core.contract.pipeline.fixing",
    "adalora_core.contract.pipeline.inspection",
    "adalora_core.contract.pipeline.options",
    "adalora_core.contract.pipeline.selection",
    "adalora_core.contract.plan.costs",
    "adalora_core.contract.plan.header",
    "adalora_core.contract.plan.modules",
    "adalora_core.contract.plan.plan",
    "adalora_core.contract.reports.json_report",
    "adalora_core.contract.rules",
    "adalora_core.contract.text.formats",
    "adalora_core.errors",
    "adalora_core.integrations.distributed",
    "adalora_core.integrations.peft",
    "adalora_core.integrations.transformers",
    "adalora_core.rank_report",
]


@pytest.mark.parametrize("path", DOCUMENTED)
def test_documented_path_is_the_module_of_today(path: str) -> None:
    present = module_aliases.present_path(path)
    assert present is not None
    if "integrations" in path:
        pytest.importorskip("peft")
    assert importlib.import_module(path) is importlib.import_module(present)


def test_names_that_were_documented_are_there() -> None:
    from adalora_core.contract import (  # type: ignore[import-not-found]
        AdaLoraConfig,
        check_config,
        validate_config,
    )

    import adalora_core

    assert AdaLoraConfig is adalora_core.AdaLoraConfig
    assert check_config is adalora_core.check_config
    assert validate_config is adalora_core.validate_config


def test_no_module_of_today_is_hidden_by_a_former_path() -> None:
    for source in PACKAGE.rglob("*.py"):
        name = ".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts)
        assert module_aliases.present_path(name.removesuffix(".__init__")) is None, name
