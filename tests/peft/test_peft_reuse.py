"""Bridged models in places where scripts for PEFT use them: resumed, read, cut and given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ms_swift_patch
import peft
import pytest
import torch
from adalora_runs import (
    LOADERS,
    SETTINGS,
    TARGET_BUDGET,
    allocator_of,
    end_step,
    final_ranks,
    live_ranks,
    make,
    optimizer_of,
    train,
)
from peft.tuners.adalora import layer as peft_layers
from peft.tuners.adalora.layer import AdaLoraLayer, RankAllocator
from toy_models import TwoLayer, tiny_llama, token_batch, two_layer, two_layer_batch

from adalora_core.bridge import attach, detach, install, uninstall
from adalora_core.floor.errors import RunError


def fresh(library: str = "peft", **changes: Any) -> Any:
    torch.manual_seed(7)
    return make(library, TwoLayer(), **changes)


def parameters_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def pair() -> list[Any]:
    """Return a model of PEFT and an attached one, equal, in float64."""
    settings = SETTINGS | {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
    models = [make(each, tiny_llama(torch.float64), **settings) for each in ("peft", "attached")]
    models[1].load_state_dict(models[0].state_dict())
    for layer in models[0].modules():
        if isinstance(layer, AdaLoraLayer):
            # PEFT trains the divisor of the scale where the base is not in float32.
            layer.ranknum["default"].requires_grad_(False)
    return models


def train_language(model: Any, steps: range) -> None:
    optimizer = optimizer_of(model)
    for step in steps:
        model.train()(**token_batch(step)).loss.backward()
        end_step(model, optimizer, step)


@pytest.mark.usefixtures("installed")
class TestBaseThatHasTheAdapter:
    """The hooks of PEFT's Whisper example: `PeftModel.from_pretrained(model.base_model.model)`."""

    @pytest.mark.parametrize("library", ["peft", "adalora_core"])
    def test_run_resumes_in_place(self, library: str, tmp_path: Path) -> None:
        whole = fresh(library)
        train(whole, range(30))
        model = fresh(library)
        optimizer = optimizer_of(model)
        train(model, range(15), optimizer=optimizer)
        model.save_pretrained(tmp_path, save_training_state=True)
        states = optimizer.state_dict()

        resumed = fresh(library)
        optimizer = optimizer_of(resumed)
        loaded = LOADERS[library].from_pretrained(resumed.base_model.model, tmp_path)
        assert loaded is resumed
        optimizer.load_state_dict(states)
        assert not resumed.training
        train(resumed, range(15, 30), optimizer=optimizer)
        assert final_ranks(resumed) == final_ranks(whole)
        torch.testing.assert_close(parameters_of(resumed), parameters_of(whole), atol=0, rtol=0)

    @pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
    def test_base_of_a_loaded_adapter_takes_the_next_one(self, tmp_path: Path) -> None:
        for number in (0, 1):
            torch.manual_seed(number)
            make("peft", TwoLayer(), init_lora_weights=False).save_pretrained(
                tmp_path / str(number)
            )
        module = two_layer()
        x = two_layer_batch(0)["x"]
        peft.PeftModel.from_pretrained(module, tmp_path / "0")
        second = peft.PeftModel.from_pretrained(module, tmp_path / "1")
        expected = peft.PeftModel.from_pretrained(two_layer(), tmp_path / "1")
        torch.testing.assert_close(second(x).logits, expected(x).logits)
        assert second.peft_config["default"].inference_mode

    @pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
    def test_unloaded_base_takes_an_adapter(self, tmp_path: Path) -> None:
        model = fresh()  # PEFT 0.18 leaves the configuration in the base model
        model.save_pretrained(tmp_path)
        loaded = peft.PeftModel.from_pretrained(model.unload(), tmp_path, is_trainable=True)
        train(loaded, range(30))
        assert sum(final_ranks(loaded)) == TARGET_BUDGET

    def test_another_adapter_is_still_refused(self, tmp_path: Path) -> None:
        model = fresh()
        model.save_pretrained(tmp_path)
        base = model.base_model.model
        with pytest.raises(RunError, match=r"^ADA801"):
            peft.PeftModel.from_pretrained(base, tmp_path, adapter_name="other")

    def test_configurations_that_a_base_brings_along_are_used(self) -> None:
        module = two_layer()
        configs = dict(fresh().peft_config)
        module.peft_config = configs  # type: ignore[assignment]
        with pytest.warns(UserWarning, match="Already found a `peft_config` attribute"):
            model = make("peft", module)
        assert model.peft_config is configs
        train(model, range(30))
        assert sum(final_ranks(model)) == TARGET_BUDGET


class TestStateDictionary:
    @pytest.mark.parametrize("until", [4, 15, 30])
    def test_reading_it_changes_nothing(self, until: int) -> None:
        model = fresh("attached", deltaT=4)
        train(model, range(until))
        for values in (each for name, each in model.named_parameters() if ".lora_E." in name):
            values.data += 0.01  # an optimizer moves dropped singular values between allocations
        pattern = model.peft_config["default"].rank_pattern
        found = peft.get_peft_model_state_dict(model)
        assert model.peft_config["default"].rank_pattern == pattern
        ranks = [len(each) for name, each in found.items() if name.endswith("lora_E")]
        assert ranks == ([12, 12] if pattern is None else [sum(each) for each in pattern.values()])

    def test_its_tensors_are_those_of_peft(self) -> None:
        model = fresh("attached")
        train(model, range(16))
        found = peft.get_peft_model_state_dict(model)
        detach(model)
        expected = peft.get_peft_model_state_dict(model)
        torch.testing.assert_close(found, expected)


class TestAllocatorOfPeft:
    def test_its_averages_can_be_read_during_a_run(self) -> None:
        models = pair()
        allocators = [model.base_model.rankallocator for model in models]
        for model in models:
            train_language(model, range(12))
        for name in ("exp_avg_ipt", "exp_avg_unc"):
            theirs, ours = (getattr(each, name) for each in allocators)
            assert set(ours) == set(theirs)
            for key in theirs:
                torch.testing.assert_close(ours[key], theirs[key], atol=1e-8, rtol=1e-5)

    def test_sensitivity_of_present_gradients_can_be_read(self) -> None:
        model = fresh("attached").train()
        optimizer = optimizer_of(model)
        model(**two_layer_batch(0)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(0)
        found = model.base_model.rankallocator.ipt
        name = "first.lora_B.default"
        factor = model.base_model.model.get_parameter(name)
        torch.testing.assert_close(found[name], (factor * factor.grad).abs())

    def test_reset_begins_the_averages_anew(self) -> None:
        model = fresh("attached")
        train(model, range(8))
        model.base_model.rankallocator.reset_ipt()
        train(model, range(8, 9))
        first = fresh("attached")
        first.load_state_dict(model.state_dict())
        statistics = allocator_of(model).statistics
        factor = model.base_model.rankallocator.exp_avg_ipt["first.lora_A.default"]
        assert statistics.smoothed[0].data_ptr() == factor.data_ptr()
        assert float(factor.abs().max()) < 1

    def test_averages_cannot_be_assigned(self) -> None:
        model = fresh("attached")
        train(model, range(3))
        allocator = model.base_model.rankallocator
        with pytest.raises(TypeError, match="does not support item assignment"):
            allocator.exp_avg_ipt["first.lora_A.default"] = torch.zeros(1)

    def test_another_total_step_is_followed(self) -> None:
        model = fresh("attached")
        model.base_model.rankallocator.set_total_step(20)
        train(model, range(20))
        assert sum(live_ranks(model)) == TARGET_BUDGET

    def test_averages_go_on_after_detach(self) -> None:
        models = pair()
        for model in models:
            train_language(model, range(12))
        detach(models[1])
        for model in models:
            train_language(model, range(12, 30))
        assert final_ranks(models[0]) == final_ranks(models[1])

    @pytest.mark.parametrize("how", ["subclass", "instance", "method", "class", "name", "module"])
    def test_one_that_was_changed_is_refused(
        self, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Mine(RankAllocator):
            def mask_to_budget(self, model: Any, budget: int) -> Any:
                return super().mask_to_budget(model, budget + 1)

        model = fresh()
        tuner = model.base_model
        if how == "subclass":
            tuner.rankallocator = Mine(tuner.model, tuner.peft_config["default"], "default")
        elif how == "instance":
            tuner.rankallocator = object()
        elif how == "method":
            tuner.rankallocator.budget_schedule = lambda _: (3, True)
        else:
            # What ms-swift puts there is known by its module and its name.
            put = ms_swift_patch.load_adapter if how == "module" else Mine.mask_to_budget
            put.__name__ = "adalora_mask_to_budget" if how == "name" else put.__name__
            monkeypatch.setattr(peft_layers.RankAllocator, "mask_to_budget", put)
        with pytest.raises(RunError, match=r"^attach: .*rankallocator.*uninstall"):
            attach(model)

    @pytest.mark.usefixtures("installed")
    def test_one_that_is_changed_after_install_is_refused_at_the_first_step(self) -> None:
        model = fresh()
        model.base_model.rankallocator.mask_to_budget = lambda *_: {}
        with pytest.raises(RunError, match=r"^update_and_allocate: .*rankallocator"):
            train(model, range(1))


@pytest.mark.usefixtures("installed")
class TestAdapterWithoutTotalStep:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        fresh(init_lora_weights=False).save_pretrained(tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"total_step": None}))
        return tmp_path

    def test_it_loads_for_inference(self, folder: Path) -> None:
        model = peft.PeftModel.from_pretrained(two_layer(), folder)
        x = two_layer_batch(0)["x"]
        torch.testing.assert_close(model(x).logits, fresh(init_lora_weights=False)(x).logits)
        assert model.peft_config["default"].total_step is None
        model.save_pretrained(folder)
        assert json.loads((folder / "adapter_config.json").read_text())["total_step"] is None

    def test_training_it_is_refused(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="total_step is not set"):
            peft.PeftModel.from_pretrained(two_layer(), folder, is_trainable=True)

    def test_new_configuration_without_total_step_stays_peft_s_error(self) -> None:
        with pytest.raises(ValueError, match="AdaLoRA does not work when `total_step` is None"):
            peft.AdaLoraConfig(target_modules=["first"])


class TestCompactAndDetach:
    def test_final_phase_goes_on_with_peft(self, tmp_path: Path) -> None:
        model = fresh("attached")
        optimizer = optimizer_of(model)
        train(model, range(26), optimizer=optimizer)
        model.compact(optimizer)
        train(model, range(26, 27), optimizer=optimizer)
        x = two_layer_batch(0)["x"]
        with torch.no_grad():
            expected = model.eval()(x).logits
            detach(model)
            torch.testing.assert_close(model(x).logits, expected)
        train(model, range(27, 30))
        assert sum(live_ranks(model)) == TARGET_BUDGET
        assert {len(each) for each in model.peft_config["default"].rank_pattern.values()} == {12}
        model.save_pretrained(tmp_path)
        loaded = peft.PeftModel.from_pretrained(two_layer(), tmp_path)
        torch.testing.assert_close(loaded.eval()(x).logits, model.eval()(x).logits)

    def test_uninstall_does_the_same(self) -> None:
        install()
        try:
            model = fresh()
            optimizer = optimizer_of(model)
            train(model, range(27), optimizer=optimizer)
            model.base_model.compact(optimizer)
        finally:
            uninstall()
        train(model, range(27, 30))
        assert sum(live_ranks(model)) == TARGET_BUDGET
