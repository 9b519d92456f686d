"""An `AdaLoraModel` is an instance of PEFT's `PeftModel`, and stays itself.

`test_peft_module` shows it for models that were made before PEFT was imported.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
from typing import Any

import peft
import pytest
import torch
from accelerate.utils import is_peft_model
from adalora_runs import make
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from toy_models import TwoLayer, tiny_llama
from word_tokenizer import words

import adalora_core
from adalora_core import AdaLoraConfig, AdaLoraModel
from adalora_core.bridge import attach
from adalora_core.nn import AdaLoraLayer


@pytest.fixture
def model() -> Any:
    return make("adalora_core", TwoLayer())


def test_a_half_imported_peft_is_no_peft(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", type(peft)("peft"))
    assert model.__class__ is type(model)


def test_attributes_are_those_of_its_own_class(model: Any) -> None:
    foreign = [
        name
        for name in dir(peft.PeftModel)
        if not hasattr(torch.nn.Module, name) and not hasattr(AdaLoraModel, name)
    ]
    assert foreign
    for name in foreign:
        assert getattr(type(model), name, None) is None
    assert peft.PeftModel not in type(model).__mro__


def test_a_class_derived_from_what_it_shows_changes_no_attribute(model: Any) -> None:
    # As fully_shard does.
    before = {name: _value(model, name) for name in dir(peft.PeftModel) if name[:2] != "__"}
    derived = type("Derived", (model.__class__,), {})
    model.__class__ = derived
    assert type(model) is derived
    assert isinstance(model, peft.PeftModel | AdaLoraModel)
    for name, value in before.items():
        assert _value(model, name) == value, name


def _value(model: Any, name: str) -> Any:
    """Return the function behind an attribute, or the type of its value or error."""
    try:
        value = getattr(model, name)
    except (AttributeError, ValueError, IndexError) as error:
        return type(error)
    return getattr(value, "__func__", type(value))


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "copy", "torch.save"])
def test_copies_are_of_the_same_class(model: Any, way: str) -> None:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copied = {
        "pickle": lambda: pickle.loads(pickle.dumps(model)),  # noqa: S301 - made here
        "deepcopy": lambda: copy.deepcopy(model),
        "copy": lambda: copy.copy(model),
        "torch.save": lambda: torch.load(file, weights_only=False),
    }[way]()
    assert type(copied) is type(model)
    assert isinstance(copied, peft.PeftModel)


def test_compiled_and_exported_it_computes_the_same(model: Any) -> None:
    x = torch.randn(2, 16)
    expected = model.eval()(x).logits
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x).logits, expected)


def test_tools_find_it(model: Any) -> None:
    assert is_peft_model(model)
    assert is_peft_model(torch.nn.DataParallel(model))
    assert peft.prepare_model_for_kbit_training(model) is model


def test_the_base_model_and_the_layers_are_found_in_it_as_in_pefts(model: Any) -> None:
    assert isinstance(model.get_base_model(), TwoLayer)
    assert not isinstance(model.get_base_model(), peft.PeftModel)
    assert any(isinstance(each, AdaLoraLayer) for each in model.modules())


def test_tuner_and_layers_are_those_of_pefts_kinds(model: Any) -> None:
    layer = model.get_base_model().first
    assert isinstance(model.base_model, BaseTuner)
    assert isinstance(layer, BaseTunerLayer | LoraLayer)
    # Their methods would act on an allocator of PEFT.
    assert not isinstance(model.base_model, peft.AdaLoraModel)
    assert not isinstance(layer, peft.tuners.adalora.AdaLoraLayer)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_parts_are_pickled_by_their_own_class(model: Any, protocol: int) -> None:
    for part in (model.base_model, model.get_base_model().first):
        loaded = pickle.loads(pickle.dumps(part, protocol))  # noqa: S301 - made here
        assert type(loaded) is type(part)
        assert type(copy.deepcopy(part)) is type(part)


def test_our_layers_are_not_taken_for_adapters_that_the_bridge_serves(model: Any) -> None:
    with pytest.raises(TypeError, match="attach"):
        attach(model)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_sft_trainer_refuses_an_adapter_on_the_head_as_with_peft(tmp_path: Any) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3]]})
    model = make("adalora_core", tiny_llama(), target_modules=["lm_head"], task_type="CAUSAL_LM")
    arguments = trl.SFTConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="lm_head"):
        trl.SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=words())


def test_pefts_state_dict_holds_the_copies_of_modules_to_save() -> None:
    states = {}
    for library in ("adalora_core", "peft"):
        model = make(library, TwoLayer(), target_modules=["first"], modules_to_save=["head"])
        found = [each for each in model.modules() if isinstance(each, ModulesToSaveWrapper)]
        (wrapper,) = found
        full = wrapper.state_dict()
        states[library] = wrapper.adapter_state_dict("default", full).keys()
        assert wrapper.adapter_state_dict("other", full) == {}
        assert wrapper.adapter_state_dict_load_map("default").items() == {
            (name, f"modules_to_save.default.{name}") for name in states[library]
        }
    assert states["adalora_core"] == states["peft"] == {"weight", "bias"}


def test_a_configuration_is_one_of_peft_and_stays_itself() -> None:
    config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
    assert isinstance(config, peft.PeftConfig)
    assert isinstance(config, peft.AdaLoraConfig)
    assert config.__class__.model_fields is AdaLoraConfig.model_fields
    changed = dataclasses.replace(config, total_step=10)
    assert changed != config
    assert dataclasses.replace(changed, total_step=9) == config
    copies = (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config)))  # noqa: S301
    for each in (changed, *copies):
        assert type(each) is AdaLoraConfig
    assert all(each == config for each in copies)


def test_functions_of_peft_take_a_configuration() -> None:
    base = torch.nn.Sequential(torch.nn.Linear(4, 4))
    config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
    injected = peft.inject_adapter_in_model(config, base)
    assert isinstance(injected[0], peft.tuners.adalora.SVDLinear)
    assert attach(injected).peft_config["default"] is config


def test_functions_of_peft_act_on_a_model(model: Any) -> None:
    from peft.helpers import rescale_adapter_scale
    from peft.optimizers import create_loraplus_optimizer

    torch.nn.init.normal_(model.get_base_model().first.lora_E["default"])
    x = torch.randn(2, 16)
    before = model.eval()(x).logits
    with rescale_adapter_scale(model, 0.5):
        assert not torch.allclose(model(x).logits, before)
    torch.testing.assert_close(model(x).logits, before)
    groups = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16
    ).param_groups
    assert {each["lr"] for each in groups if each["params"]} == {1e-3, 16e-3}
    peft.cast_mixed_precision_params(model, torch.float16)
    assert {each.dtype for each in model.parameters() if each.requires_grad} == {torch.float32}


@pytest.mark.parametrize("autocast", [True, False])
def test_factors_have_the_dtype_that_is_asked_for_as_with_peft(
    autocast: bool, tmp_path: Any
) -> None:
    dtypes = []
    for library, loaded in ((peft, peft.PeftModel), (adalora_core, AdaLoraModel)):
        config = library.AdaLoraConfig(target_modules=["first"], total_step=300)
        bases = [TwoLayer().to(torch.bfloat16) for _ in range(2)]
        made = library.get_peft_model(bases[0], config, autocast_adapter_dtype=autocast)
        made.save_pretrained(tmp_path / library.__name__)
        read = loaded.from_pretrained(
            bases[1], tmp_path / library.__name__, autocast_adapter_dtype=autocast
        )
        dtypes += [each.get_base_model().first.lora_A["default"].dtype for each in (made, read)]
    assert {*dtypes} == {torch.float32 if autocast else torch.bfloat16}
