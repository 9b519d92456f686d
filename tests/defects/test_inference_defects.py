"""What breaks PEFT's adapters after training, and does not break ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import peft
import pytest
import torch
from adalora_runs import LOADERS, make, train
from toy_models import TwoLayer, tiny_llama, token_batch, two_layer_batch

LLAMA = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def saved_llama(tmp_path: Path) -> Path:
    """A trained adapter of the small language model, saved by PEFT."""
    model = make("peft", tiny_llama(), **LLAMA)
    model.save_pretrained(tmp_path)
    return tmp_path


class TestLabelsInInferenceMode:
    """A frozen adapter is evaluated with labels."""

    def test_peft_raises_attribute_error(self, saved_llama: Path) -> None:
        model = peft.PeftModel.from_pretrained(tiny_llama(), saved_llama)
        with pytest.raises(AttributeError, match="trainable_adapter_name"):
            model(**token_batch(0))

    def test_ours_returns_the_task_loss(self, library: str, saved_llama: Path) -> None:
        model = LOADERS[library].from_pretrained(tiny_llama(), saved_llama)
        expected = tiny_llama()(**token_batch(0)).loss
        torch.testing.assert_close(model(**token_batch(0)).loss, expected)


class TestEvaluationLoss:
    """The loss in evaluation mode should be the task's alone."""

    def test_peft_adds_the_penalty(self) -> None:
        model = make("peft", tiny_llama(), **LLAMA).eval()
        task = tiny_llama().eval()(**token_batch(0)).loss
        assert model(**token_batch(0)).loss > task + 0.1

    def test_ours_does_not(self, library: str) -> None:
        model = make(library, tiny_llama(), **LLAMA)
        task = tiny_llama().eval()(**token_batch(0)).loss
        torch.testing.assert_close(model.eval()(**token_batch(0)).loss, task)
        assert model.train()(**token_batch(0)).loss > task + 0.1


class TestReloadOnBfloat16Base:
    """float32 adapters beside a bfloat16 base are saved and loaded."""

    @staticmethod
    def trained(library: str) -> Any:
        model = make(library, TwoLayer().to(torch.bfloat16))
        train(model, range(30), dtype=torch.bfloat16)
        return model

    def test_peft_rounds_the_weights(self, tmp_path: Path) -> None:
        self.trained("peft").save_pretrained(tmp_path)
        saved = peft.load_peft_weights(str(tmp_path))["base_model.model.first.lora_A"]
        model = peft.PeftModel.from_pretrained(TwoLayer().to(torch.bfloat16), tmp_path)
        loaded = model.base_model.model.first.lora_A["default"]
        assert loaded.dtype is torch.float32
        assert (loaded.detach() - saved).abs().max() > 1e-5

    def test_ours_keeps_every_bit(self, library: str, tmp_path: Path) -> None:
        self.trained(library).save_pretrained(tmp_path)
        saved = peft.load_peft_weights(str(tmp_path))["base_model.model.first.lora_A"]
        model = LOADERS[library].from_pretrained(TwoLayer().to(torch.bfloat16), tmp_path)
        loaded = model.base_model.model.first.lora_A["default"]
        assert loaded.dtype is torch.float32
        assert torch.equal(loaded.detach(), saved)


class TestMidBudgetSave:
    """Saving between two allocations, when dropped singular values have grown again."""

    SETTINGS: ClassVar = {"deltaT": 7, "tinit": 0, "tfinal": 0, "target_r": 4}

    def test_peft_saves_another_model(self, tmp_path: Path) -> None:
        live, reloaded = self._outputs("peft", tmp_path)
        assert (live - reloaded).abs().max() > 1e-3

    def test_ours_saves_what_it_computes(self, library: str, tmp_path: Path) -> None:
        live, reloaded = self._outputs(library, tmp_path)
        torch.testing.assert_close(live, reloaded, atol=1e-6, rtol=1e-5)

    def _outputs(self, library: str, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        model = make(library, TwoLayer(), **self.SETTINGS)
        train(model, range(26))
        model.save_pretrained(folder)
        torch.manual_seed(1)
        fresh = TwoLayer()
        # Both files are read by PEFT: what differs is who wrote them.
        reloaded = peft.PeftModel.from_pretrained(fresh, folder).eval()
        x = two_layer_batch(99)["x"]
        with torch.no_grad():
            return model.eval()(x).logits, reloaded(x).logits
