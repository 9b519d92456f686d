"""The table of torch's machinery has two words, and a fault is neither of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adalora_core import ops
from adalora_core.nn import svd_linear

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool() -> Any:
    """The module that makes the table."""
    path = list(sys.path)
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("torch_machinery")
    finally:
        sys.path[:] = path


def row(tool: Any, name: str) -> Any:
    (found,) = [each for each in tool.ROWS if each.machinery == name]
    return found


def test_a_right_row_is_as_the_reference(tool: Any) -> None:
    (cells,) = tool.table([row(tool, "functional_call")]).values()
    assert cells == ["< 1e-5"] * 6


def test_a_wrong_result_ends_the_program(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(x: torch.Tensor, *rest: Any, **options: Any) -> Any:
        return ops.adapted_linear(2 * x, *rest, **options)

    monkeypatch.setattr(svd_linear, "adapted_linear", doubled)
    with pytest.raises(SystemExit, match="checkpointing, native, own API: fault: the error is"):
        tool.table([row(tool, "checkpointing")])


def refused(_model: Any, x: torch.Tensor) -> Any:
    weight = torch.ones(8, 8, requires_grad=True)
    return [ops.adapted_linear(x, weight, None, x, x, x, 1.0)]


def broken(model: Any, x: torch.Tensor) -> Any:
    return [model(x[..., :3])]  # an error of torch, in a call of this package


def test_a_refusal_is_an_error_of_this_package_and_not_of_torch(tool: Any) -> None:
    plain = row(tool, "functional_call").probe
    made = tool.Row("refused", refused, plain=plain)
    sentence = "refused: adapted_linear: weight must be frozen"
    for door in tool.DOORS:
        assert tool.cell(made, "portable", door).startswith(sentence)
        found = tool.cell(tool.Row("broken", broken, plain=plain), "portable", door)
        assert found.startswith("fault: RuntimeError"), found


def test_the_committed_page_stays_if_errors_alone_differ(
    tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr(tool, "ROWS", (row(tool, "weight_norm"),))
    made = tool.page()
    other = made.replace("weight_norm", "spectral_norm")
    for held, is_kept in ((made.replace("< 1e-5", "< 1e-4"), True), (other, False)):
        page.write_text(held, encoding="utf-8")
        assert (tool.page() == held) == is_kept
