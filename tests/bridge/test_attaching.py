"""`attach`, `detach`, `install`, `uninstall`: what they change, and that they undo it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import (
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
from peft.tuners.adalora.layer import AdaLoraLayer, SVDLinear
from peft.tuners.adalora.model import AdaLoraModel
from toy_models import TwoLayer, outputs, tiny_llama, token_batch, two_layer_batch

from adalora_core.bridge import attach, detach, install, is_attached, uninstall
from adalora_core.bridge.versions import TRIED, UnsupportedPeftError, require_supported_peft
from adalora_core.floor.errors import RunError

both = pytest.mark.parametrize("door", ["attached", "injected"])
CLASSES = [peft.PeftModel, AdaLoraModel, AdaLoraLayer, SVDLinear]


def fresh(library: str = "peft", **changes: Any) -> Any:
    torch.manual_seed(7)
    return make(library, TwoLayer(), **changes)


class TestAttach:
    def test_classes_names_and_outputs_stay(self) -> None:
        model, plain = fresh("attached", init_lora_weights=False), fresh(init_lora_weights=False)
        assert isinstance(model, peft.PeftModel)
        assert isinstance(model.base_model, AdaLoraModel)
        assert isinstance(model.base_model.model.first, SVDLinear)
        assert [type(each).__name__ for each in model.modules()] == [
            type(each).__name__ for each in plain.modules()
        ]
        assert [name for name, _ in model.named_parameters()] == [
            name for name, _ in plain.named_parameters()
        ]
        x = two_layer_batch(0)["x"]
        torch.testing.assert_close(model(x).logits, plain(x).logits)

    def test_torch_compile_makes_one_graph_of_a_model(self) -> None:
        torch.compiler.reset()
        model = fresh("attached", init_lora_weights=False)
        whole = torch.compile(model, backend="aot_eager", fullgraph=True)
        whole(**two_layer_batch(0)).loss.backward()
        expected = fresh("attached", init_lora_weights=False)
        expected(**two_layer_batch(0)).loss.backward()
        for one, other in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)

    def test_same_budget_and_ranks_as_peft_at_every_step_in_float64(self) -> None:
        # Task type given: without one PEFT leaves the penalty out.
        settings = SETTINGS | {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
        models = [
            make(each, tiny_llama(torch.float64), **settings) for each in ("peft", "attached")
        ]
        models[1].load_state_dict(models[0].state_dict())
        for layer in models[0].modules():
            if isinstance(layer, AdaLoraLayer):
                # What PEFT trains by mistake where the base is not in float32.
                layer.ranknum["default"].requires_grad_(False)
        optimizers = [optimizer_of(model) for model in models]
        for step in range(30):
            for model, optimizer in zip(models, optimizers, strict=True):
                model.train()(**token_batch(step)).loss.backward()
                end_step(model, optimizer, step)
            patterns = [model.peft_config["default"].rank_pattern for model in models]
            assert patterns[0] == patterns[1], step
        for (name, theirs), ours in zip(
            models[0].named_parameters(), models[1].parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, msg=name)

    @both
    def test_penalty_is_added_without_a_task_type_too(self, door: str) -> None:
        model = fresh(door).train()
        batch = two_layer_batch(0)
        found = model(**batch).loss
        with torch.no_grad():
            task = model.eval()(**batch).loss
        assert model.orthogonality_penalty() > 0
        torch.testing.assert_close(found - task, model.orthogonality_penalty())

    def test_disabled_adapter_has_no_penalty(self) -> None:
        model = fresh("attached").train()
        batch = two_layer_batch(0)
        with model.disable_adapter():
            found = model(**batch).loss
        torch.testing.assert_close(found, TwoLayer.forward(model.get_base_model(), **batch).loss)

    def test_settings_changed_before_the_first_step_are_followed_as_peft_does(self) -> None:
        model = fresh("attached")
        model.peft_config["default"].total_step = 20
        train(model, range(20))
        assert sum(live_ranks(model)) == TARGET_BUDGET
        model.peft_config["default"].total_step = 40
        with pytest.raises(RunError, match="ADA818"):
            train(model, range(20, 21))

    @both
    def test_copy_and_pickle_go_on(self, door: str) -> None:
        model = fresh(door)
        train(model, range(15))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert is_attached(other)
            train(other, range(15, 30))
            assert sum(final_ranks(other)) == TARGET_BUDGET
        assert allocator_of(model).last_step == 14

    @both
    def test_compact_works(self, door: str) -> None:
        model = fresh(door)
        optimizer = optimizer_of(model)
        train(model, range(27), optimizer=optimizer)
        before = outputs(model)
        with torch.no_grad():
            report = model.compact(optimizer)
        assert report.parameters_after < report.parameters_before
        torch.testing.assert_close(outputs(model), before, atol=1e-6, rtol=1e-5)
        train(model, range(27, 30), optimizer=optimizer)
        assert sum(live_ranks(model)) == TARGET_BUDGET

    @pytest.mark.parametrize("model", [TwoLayer(), None], ids=["module", "none"])
    def test_anything_else_is_refused(self, model: Any) -> None:
        with pytest.raises(TypeError, match=r"peft\.PeftModel with AdaLoRA"):
            attach(model)

    def test_other_method_of_peft_is_refused(self) -> None:
        config = peft.LoraConfig(target_modules=["first"])
        with pytest.raises(TypeError, match="LoraModel"):
            attach(peft.get_peft_model(TwoLayer(), config))
        with pytest.raises(TypeError, match=r"injected them into, got TwoLayer"):
            attach(peft.inject_adapter_in_model(config, TwoLayer()))


class TestDetach:
    def test_model_is_peft_s_again_and_goes_on(self) -> None:
        model = fresh("attached")
        train(model, range(27))
        pattern = model.peft_config["default"].rank_pattern
        assert detach(model) is model
        assert {type(each) for each in model.modules()} == {
            type(each) for each in fresh().modules()
        }
        assert not any("adalora" in key for each in model.modules() for key in vars(each))
        assert model.peft_config["default"].rank_pattern == pattern
        train(model, range(27, 30))
        assert sum(live_ranks(model)) == TARGET_BUDGET

    def test_second_attach_and_detach_change_nothing(self) -> None:
        model = fresh("attached")
        classes = [type(each) for each in model.modules()]
        assert attach(model) is model
        assert [type(each) for each in model.modules()] == classes
        detach(detach(model))
        assert not is_attached(model)


class TestInstall:
    def test_uninstall_restores_every_class(self) -> None:
        before = [dict(vars(cls)) for cls in CLASSES]
        install()
        assert [dict(vars(cls)) for cls in CLASSES] != before
        install()
        uninstall()
        assert [dict(vars(cls)) for cls in CLASSES] == before

    @pytest.mark.usefixtures("installed")
    def test_every_new_model_is_served(self) -> None:
        model = fresh(init_r=8, target_r=8)
        train(model, range(30))
        assert final_ranks(model) == [8, 8]

    def test_model_built_meanwhile_is_peft_s_again_after_uninstall(self) -> None:
        install()
        try:
            model = fresh()
            train(model, range(27))
        finally:
            uninstall()
        assert not any("adalora" in key for each in model.modules() for key in vars(each))
        train(model, range(27, 30))
        assert sum(live_ranks(model)) == TARGET_BUDGET

    @pytest.mark.usefixtures("installed")
    def test_other_methods_go_on_as_before(self, tmp_path: Path) -> None:
        config = peft.LoraConfig(target_modules=["first"])
        model = peft.get_peft_model(TwoLayer(), config)
        model(**two_layer_batch(0)).loss.backward()
        model.save_pretrained(tmp_path)
        loaded = peft.PeftModel.from_pretrained(TwoLayer(), tmp_path)
        assert type(loaded.base_model).__name__ == "LoraModel"
        assert not list(tmp_path.glob("adalora_state.*"))


class TestRelease:
    @pytest.fixture
    def release(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        module = "adalora_core.bridge.versions.version"
        return lambda number: monkeypatch.setattr(module, lambda _: number)

    def test_one_that_was_tried_is_taken_quietly(self, release: Callable[[str], None]) -> None:
        for number, _ in TRIED:
            release(number)
            require_supported_peft()

    @pytest.mark.parametrize("number", ["0.17.1", "0.22.1", "1.0.0", "0.30.0.dev0"])
    def test_one_that_was_not_tried_is_used_with_a_warning(
        self, number: str, release: Callable[[str], None]
    ) -> None:
        release(number)
        with pytest.warns(UserWarning, match=rf"not tried with PEFT {number}, .* bridge is used"):
            require_supported_peft()

    @pytest.mark.parametrize("number", ["0.15.2", "0.21.2", "0.22.1"])
    def test_one_without_what_the_bridge_replaces_is_refused_by_name(
        self, number: str, release: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release(number)
        monkeypatch.delattr(AdaLoraModel, "resize_modules_by_rank_pattern")

        def load_adapter(self: Any, source: Any, adapter_name: str, is_trainable: bool) -> None:
            pass

        monkeypatch.setattr(peft.PeftModel, "load_adapter", load_adapter)
        with pytest.raises(
            UnsupportedPeftError,
            match=rf"PEFT {number} lacks what the bridge replaces: "
            r"peft\.PeftModel\.load_adapter\(model_id\), "
            r"peft\.tuners\.adalora\.model\.AdaLoraModel\.resize_modules_by_rank_pattern;",
        ):
            require_supported_peft()
