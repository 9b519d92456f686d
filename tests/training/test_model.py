"""The surface of PEFT's PeftModel: what users call on a model with adapters."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from adalora_runs import SETTINGS, make, train
from torch import nn
from toy_models import TwoLayer, outputs, tiny_llama, token_batch, two_layer_batch

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model

LLAMA = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "k_proj", "v_proj"]}


def through_pickle(model: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes


def disturb(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)


class TestDocumentedUse:
    def test_a_field_assigned_later_is_checked_when_the_model_is_made(self) -> None:
        config = AdaLoraConfig(**SETTINGS)
        config.tinit = 29
        with pytest.raises(ValueError, match="budgeting phase"):
            get_peft_model(TwoLayer(), config)

    def test_the_configuration_of_another_method_is_refused_by_name(self) -> None:
        import peft

        with pytest.raises(TypeError, match=r"peft\..*LoraConfig"):
            get_peft_model(TwoLayer(), peft.LoraConfig(target_modules=["first"]))

    def test_arguments_in_the_wrong_order_are_refused_with_the_right_one(self) -> None:
        config: Any = AdaLoraConfig(**SETTINGS)
        base: Any = TwoLayer()
        for wrong in (
            lambda: get_peft_model(config, base),
            lambda: AdaLoraModel.from_pretrained("adapter", base),
        ):
            with pytest.raises(TypeError, match=r"first argument.*from_pretrained\(model, folder"):
                wrong()


class TestFirstOutputs:
    def test_a_fresh_adapter_changes_nothing(self) -> None:
        base = TwoLayer()
        expected = outputs(base)
        torch.testing.assert_close(outputs(make("adalora_core", base)), expected)

    def test_without_init_the_adapter_acts_at_once(self) -> None:
        base = TwoLayer()
        expected = outputs(base)
        model = make("adalora_core", base, init_lora_weights=False)
        assert not torch.allclose(outputs(model), expected)

    def test_only_the_factors_are_trained(self) -> None:
        model = make("adalora_core")
        trained = {name for name, each in model.named_parameters() if each.requires_grad}
        assert trained == {
            f"base_model.model.{path}.lora_{factor}.default"
            for path in ("first", "second")
            for factor in "AEB"
        }

    def test_factors_are_made_on_meta_inside_its_context(self) -> None:
        base, config = TwoLayer(), AdaLoraConfig(**SETTINGS)
        with torch.device("meta"):
            model = get_peft_model(base, config)
        factors = [each for name, each in model.named_parameters() if "lora_" in name]
        assert {each.device.type for each in factors} == {"meta"}


class TestForwarding:
    def test_attributes_and_methods_are_the_base_models(self) -> None:
        model = make("adalora_core", tiny_llama(), **LLAMA)
        assert model.config.vocab_size == 64
        assert model.get_input_embeddings().weight.shape == (64, 32)
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = model.nonsense

    def test_an_error_inside_a_property_of_the_base_model_stays(self) -> None:
        class Failing(TwoLayer):
            @property
            def broken(self) -> int:
                raise AttributeError("a reason of its own")

        with pytest.raises(AttributeError, match=r"broken|a reason of its own"):
            _ = make("adalora_core", Failing()).broken

    def test_generate_runs_with_the_adapter(self) -> None:
        model = make("adalora_core", tiny_llama(), **LLAMA).eval()
        ids = token_batch(0)["input_ids"]
        before = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
        assert before.shape == (4, 16)
        torch.manual_seed(3)
        disturb(model)
        with model.disable_adapter():
            plain = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
        assert torch.equal(plain, before)
        adapted = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
        assert not torch.equal(adapted, before)

    def test_the_signature_is_the_base_models_for_object_and_class(self) -> None:
        model = make("adalora_core", tiny_llama(), **LLAMA)
        expected = list(inspect.signature(type(tiny_llama()).forward).parameters)
        assert list(inspect.signature(type(model).forward).parameters) == expected
        assert list(inspect.signature(model.forward).parameters) == expected[1:]
        assert type(model).__name__ == "AdaLoraModel"
        assert isinstance(model, AdaLoraModel)

    @pytest.mark.parametrize("clone", [copy.deepcopy, through_pickle])
    def test_copies_work_and_share_nothing(self, clone: Any) -> None:
        model = make("adalora_core")
        train(model, range(5))
        twin = clone(model)
        assert isinstance(twin, AdaLoraModel)
        torch.testing.assert_close(outputs(twin.eval()), outputs(model.eval()))
        before = outputs(model)
        train(twin, range(5, 30))
        torch.testing.assert_close(outputs(model.eval()), before)
        assert twin.base_model.adapters["default"].allocator.target_reached
        assert not model.base_model.adapters["default"].allocator.target_reached

    def test_parameter_counts_are_pefts(self, capsys: pytest.CaptureFixture[str]) -> None:
        for library in ("peft", "adalora_core"):
            make(library, tiny_llama(), **LLAMA).print_trainable_parameters()
        theirs, ours = capsys.readouterr().out.splitlines()
        # PEFT counts one divisor of the scale per module among all parameters.
        assert ours.split(" || ")[0] == theirs.split(" || ")[0]


class TestLoss:
    @pytest.mark.parametrize("weight", [0.3, 0.0])
    def test_training_loss_is_task_plus_weighted_penalty(self, weight: float) -> None:
        model = make("adalora_core", orth_reg_weight=weight)
        task = TwoLayer.forward(model.base_model.model, **two_layer_batch(0)).loss
        total, penalty = model.train()(**two_layer_batch(0)).loss, model.orthogonality_penalty()
        torch.testing.assert_close(total, task + penalty)
        assert bool(penalty) == bool(weight)

    def test_the_penalty_is_pefts(self) -> None:
        model = make("adalora_core", orth_reg_weight=0.3)
        norms = []
        for name, factor in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                gram = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                norms.append(torch.linalg.norm(gram - torch.eye(12)))
        torch.testing.assert_close(model.orthogonality_penalty(), 0.3 * torch.stack(norms).mean())


class TestMerging:
    @pytest.mark.parametrize("safe", [False, True])
    def test_merged_and_unloaded_equals_the_adapted_model(self, safe: bool) -> None:
        model = make("adalora_core")
        disturb(model)
        expected = outputs(model.eval())
        merged = model.merge_and_unload(safe_merge=safe)
        assert type(merged) is TwoLayer
        assert type(merged.first) is nn.Linear
        torch.testing.assert_close(outputs(merged), expected, atol=1e-5, rtol=1e-5)

    def test_safe_merge_refuses_what_is_not_finite_and_changes_nothing(self) -> None:
        model = make("adalora_core").eval()
        disturb(model)
        with torch.no_grad():
            model.base_model.model.second.lora_A["default"][0, 0] = torch.nan
        weight = model.base_model.model.first.base_layer.weight.clone()
        with pytest.raises(ValueError, match="NaNs detected"):
            model.merge_and_unload(safe_merge=True)
        torch.testing.assert_close(model.base_model.model.first.base_layer.weight, weight)

    def test_unload_returns_the_untouched_base(self) -> None:
        base = TwoLayer()
        expected = outputs(base)
        model = make("adalora_core", base)
        disturb(model)
        torch.testing.assert_close(outputs(model.unload()), expected)
