"""State dictionaries and scale of adapters, and their status by PEFT's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import adalora_core
from adalora_core import (
    AdaLoraConfig,
    AdaLoraModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from adalora_core.trainers.distributed import AdapterState
from tests.support.adalora_runs import make
from tests.support.toy_models import TwoLayer, two_layer_batch

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS: dict[str, Any] = {
    "init_r": 6,
    "target_r": 3,
    "tfinal": 5,
    "total_step": 20,
    "orth_reg_weight": 0.0,
    "target_modules": ["first", "second"],
    "modules_to_save": ["head"],
    "bias": "lora_only",
}


def made(library: Any = adalora_core, **changes: Any) -> Any:
    torch.manual_seed(0)
    return library.get_peft_model(TwoLayer(), library.AdaLoraConfig(**SETTINGS | changes))


def train(model: Any, steps: range = range(20)) -> Any:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in steps:
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model


def outputs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(two_layer_batch(99)["x"]).logits  # type: ignore[no-any-return]


class TestStateDictionaries:
    def test_the_entries_are_those_of_a_saved_file(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        model = train(made())
        model.finalize()
        model.save_pretrained(tmp_path)
        saved = load_file(tmp_path / "adapter_model.safetensors")
        found = get_peft_model_state_dict(model)
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], saved[name]) for name in saved)
        assert sum(t.shape[0] for name, t in found.items() if name.endswith("lora_E")) == 6

    def test_the_entries_are_those_of_peft(self) -> None:
        import peft

        theirs = peft.get_peft_model_state_dict(train(made(peft)))
        ours = get_peft_model_state_dict(train(made()))
        assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}

    @pytest.mark.parametrize("steps", [0, 9, 20])
    def test_a_given_state_is_taken_instead_of_the_models(self, steps: int) -> None:
        model = train(made(), range(steps))
        state = {name: each + 1 for name, each in model.state_dict().items()}
        plain, given = get_peft_model_state_dict(model), get_peft_model_state_dict(model, state)
        assert given.keys() == plain.keys()
        assert all(torch.equal(given[name], plain[name] + 1) for name in plain)

    def test_a_model_may_save_its_adapter_as_its_whole_state(self) -> None:
        """The trick of alpaca-lora's script."""
        model = train(made())
        whole = model.state_dict
        model.state_dict = lambda *_, **__: get_peft_model_state_dict(model, whole())
        assert all("lora_" in n or "head" in n or "bias" in n for n in model.state_dict())

    @pytest.mark.parametrize("trained", [False, True])
    def test_setting_gives_the_outputs(self, trained: bool) -> None:
        model = train(made())
        model.finalize()
        other = made()
        if trained:
            train(other)
        holders = dict(other.named_parameters())
        result = set_peft_model_state_dict(other, get_peft_model_state_dict(model))
        assert result == ([], [])
        torch.testing.assert_close(outputs(other), outputs(model))
        assert all(holders[name] is each for name, each in other.named_parameters())

    def test_peft_takes_the_state(self) -> None:
        import peft

        model = made(init_lora_weights=False)
        other = made(peft)
        peft.set_peft_model_state_dict(other, get_peft_model_state_dict(model))
        torch.testing.assert_close(outputs(other), outputs(model), atol=1e-4, rtol=1e-4)

    def test_what_does_not_fit_is_named(self) -> None:
        model = made()
        state = get_peft_model_state_dict(model)
        name = "base_model.model.first.lora_A"
        missing = {key: each for key, each in state.items() if key != name}
        result = set_peft_model_state_dict(model, missing | {"nonsense": torch.zeros(1)})
        assert result.missing_keys == [f"{name}.default"]
        assert result.unexpected_keys == ["nonsense"]
        wide = state | {name: torch.zeros(7, 16)}
        before = outputs(model)
        with pytest.raises(RuntimeError, match=r"size mismatch for .*first\.lora_A"):
            set_peft_model_state_dict(model, wide)
        torch.testing.assert_close(outputs(model), before)
        with pytest.warns(UserWarning, match="first.lora_A"):
            result = set_peft_model_state_dict(model, wide, ignore_mismatched_sizes=True)
        assert result.missing_keys == [f"{name}.default"]

    def test_models_of_others_are_refused(self) -> None:
        import peft

        with pytest.raises(TypeError, match="expected an AdaLoraModel of adalora_core"):
            get_peft_model_state_dict(made(peft))
        with pytest.raises(ValueError, match="no adapter 'other'"):
            get_peft_model_state_dict(made(), adapter_name="other")


def two_adapters(library: Any) -> Any:
    model = made(library, modules_to_save=None, bias="none")
    config = library.AdaLoraConfig(**SETTINGS | {"target_modules": ["first"], "bias": "none"})
    config.inference_mode = True
    model.add_adapter("other", config)
    return model


STATES: dict[str, Any] = {
    "as made": lambda _: None,
    "other active": lambda model: model.set_adapter("other"),
    "both active": lambda model: model.base_model.set_adapter(["default", "other"]),
    "merged": lambda model: model.merge_adapter(["default"]),
    "disabled": lambda model: model.base_model.disable_adapter_layers(),
}


@pytest.mark.parametrize("state", STATES)
def test_the_status_is_that_of_peft(state: str) -> None:
    import peft

    found = []
    for library in (peft, adalora_core):
        model = two_adapters(library)
        STATES[state](model)
        layers = {each.name: vars(each) for each in peft.get_layer_status(model)}
        # PEFT names every active adapter at every layer, also where the layer does not have it,
        # freezes disabled adapters, and trains every active one.
        for each in layers.values():
            each["active_adapters"] = [
                name for name in each["active_adapters"] if name in each["available_adapters"]
            ]
            del each["requires_grad"]
        whole = peft.get_model_status(model)
        found.append((layers, whole.enabled, whole.devices))
    theirs, ours = found
    for name, layer in theirs[0].items():
        layer["module_type"] = ours[0][name]["module_type"]
    assert ours == theirs


class TestScale:
    def test_the_scale_can_be_set_multiplied_and_reset(self) -> None:
        model = made(init_lora_weights=False, modules_to_save=None)
        layer = model.base_model.model.first
        whole = layer.get_delta_weight("default")
        layer.set_scale("default", 0.5)
        torch.testing.assert_close(layer.get_delta_weight("default"), whole / 2)
        layer.scale_layer(4)
        torch.testing.assert_close(layer.get_delta_weight("default"), whole * 2)
        layer.unscale_layer(2)
        torch.testing.assert_close(layer.get_delta_weight("default"), whole)
        layer.scaling["default"] = 0
        assert not layer.get_delta_weight("default").any()
        layer.unscale_layer()
        torch.testing.assert_close(layer.get_delta_weight("default"), whole)

    def test_outputs_merging_and_export_follow(self, tmp_path: Path) -> None:
        import peft

        model = made(init_lora_weights=False, modules_to_save=None, bias="none")
        for layer in (model.base_model.model.first, model.base_model.model.second):
            layer.scale_layer(0.25)
        expected = outputs(model)
        model.export_lora(tmp_path)
        torch.manual_seed(0)
        exported = peft.PeftModel.from_pretrained(TwoLayer(), tmp_path)
        torch.testing.assert_close(outputs(exported), expected)
        torch.testing.assert_close(outputs(model.base_model.merge_and_unload()), expected)

    def test_the_gradient_reaches_the_factors(self) -> None:
        layer = made(init_lora_weights=False).base_model.model.first
        layer.get_delta_weight("default").sum().backward()
        assert layer.lora_A["default"].grad is not None

    def test_dropout_is_a_module_that_scripts_can_change(self) -> None:
        model = made(lora_dropout=0.5, init_lora_weights=False, modules_to_save=None)
        x = two_layer_batch(0)["x"]
        assert not torch.equal(model.train()(x).logits, model(x).logits)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0
        assert torch.equal(model(x).logits, model(x).logits)
        assert model.base_model.model.first.lora_dropout["default"].p == 0


class Biased(TwoLayer):
    """A model with a parameter of its own, which is in none of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(16))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return super().forward(x + self.bias, labels)


@pytest.mark.parametrize("library", ["adalora_core", "attached"])
def test_a_state_holds_a_bias_at_the_top_of_the_model(library: str) -> None:
    torch.manual_seed(0)
    models = [make(library, Biased(), bias="all") for _ in range(2)]
    train(models[0], range(5))
    assert models[0].base_model.model.bias.any()
    AdapterState(models[1]).load_state_dict(AdapterState(models[0]).state_dict())
    trained = [[p for p in each.parameters() if p.requires_grad] for each in models]
    assert all(map(torch.equal, *trained))


class TestWrapping:
    def test_the_class_is_called_as_pefts_tuner(self) -> None:
        config = AdaLoraConfig(**SETTINGS)
        model = AdaLoraModel(TwoLayer(), config, "mine")
        assert model.active_adapters == ["mine"]
        assert model.base_model.peft_config["mine"] is config
        assert model.base_model.trainable_adapter_name == "mine"

    def test_the_pattern_in_the_users_object_is_that_of_the_last_read(self) -> None:
        config = AdaLoraConfig(**SETTINGS)
        model = train(get_peft_model(TwoLayer(), config), range(5))
        assert sum(map(sum, model.peft_config["default"].rank_pattern.values())) < 12
        before = config.rank_pattern
        train(model, range(5, 9))
        assert model.peft_config["default"].rank_pattern != before
        assert config.to_dict()["rank_pattern"] == config.rank_pattern != before

    @pytest.mark.parametrize("of_peft", [False, True])
    def test_models_of_one_configuration_have_patterns_of_their_own(self, of_peft: bool) -> None:
        import peft

        config = (peft if of_peft else adalora_core).AdaLoraConfig(**SETTINGS)
        first, second = (get_peft_model(TwoLayer(), config) for _ in range(2))
        assert second.peft_config["default"] is config
        train(second)
        assert first.peft_config["default"].rank_pattern is None
        first.add_adapter("other", first.peft_config["default"])
        train(first)
        patterns = [
            {f"{path}.lora_E.default": kept for path, kept in adapter.allocator.kept().items()}
            for adapter in (each.base_model.adapters["default"] for each in (first, second))
        ]
        assert patterns[0] != patterns[1]
        for model, pattern in zip((first, second) * 2, patterns * 2, strict=True):
            assert model.peft_config["default"].rank_pattern == pattern
        assert first.peft_config["other"].rank_pattern is None

    def test_a_length_assigned_to_the_users_object_counts(self) -> None:
        config = AdaLoraConfig(**SETTINGS)
        model = get_peft_model(TwoLayer(), config)
        model.base_model.peft_config["default"].total_step = 40
        train(model, range(1))
        assert config.total_step == model.base_model.adapters["default"].spec.total_step == 40

    def test_a_frozen_adapter_is_no_trainable_one(self, tmp_path: Path) -> None:
        made().save_pretrained(tmp_path, save_training_state=True)
        model = AdaLoraModel.from_pretrained(TwoLayer(), tmp_path)
        assert not hasattr(model, "trainable_adapter_name")

    def test_disabling_survives_the_context(self) -> None:
        model = made(init_lora_weights=False)
        model.base_model.disable_adapter_layers()
        with model.disable_adapter():
            plain = outputs(model)
        torch.testing.assert_close(outputs(model), plain)
        model.base_model.enable_adapter_layers()
        assert not torch.allclose(outputs(model), plain)


@pytest.mark.parametrize("named", [None, ["classifier", "score"]])
def test_a_sequence_classifier_of_peft_loads(tmp_path: Path, named: Any) -> None:
    import peft
    from transformers import BertConfig, BertForSequenceClassification

    def base() -> Any:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 32}
        return BertForSequenceClassification(
            BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
        )

    settings = {"total_step": 20, "target_modules": ["query"], "modules_to_save": named}
    config = peft.AdaLoraConfig(task_type="SEQ_CLS", init_lora_weights=False, **settings)
    model = peft.get_peft_model(base(), config)
    nn.init.normal_(model.classifier.modules_to_save["default"].weight)
    model.save_pretrained(tmp_path)
    tokens = torch.arange(8).reshape(1, 8)
    loaded = AdaLoraModel.from_pretrained(base(), tmp_path)
    torch.testing.assert_close(loaded(tokens).logits, model.eval()(tokens).logits)
    assert {*loaded.peft_config["default"].modules_to_save} == {"classifier", "score"}
