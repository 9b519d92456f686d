"""PEFT's `convert_to_lora` and `save_as_lora` on models of each door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import make, train
from torch import nn
from toy_models import two_layer, two_layer_batch

pytest.importorskip("peft.tuners.lora.conversion", reason="PEFT before 0.19")


DOORS = pytest.mark.parametrize("door", ["import", "attach"], indirect=True)


@DOORS
@pytest.mark.parametrize("changes", [{}, {"target_modules": "first|second"}], ids=["names", "text"])
def test_the_lora_computes_the_same(door: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = make(door, two_layer(), modules_to_save=["head"], **changes)
    train(model, range(30))
    peft.save_as_lora(tmp_path, model, rank=12)
    loaded = peft.PeftModel.from_pretrained(two_layer(), tmp_path)
    x = two_layer_batch(99)["x"]
    assert isinstance(loaded.base_model, peft.LoraModel)
    torch.testing.assert_close(loaded.eval()(x).logits, model.eval()(x).logits)


@DOORS
def test_a_convolution_is_refused_as_peft_refuses_it(door: str) -> None:
    model = make(door, nn.Sequential(nn.Conv2d(3, 4, 3)), target_modules=["0"])
    with pytest.raises(TypeError, match=r"do not support LoRA conversion: .*SVDConv2d"):
        peft.convert_to_lora(model, 2)
