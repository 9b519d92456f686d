"""Every public name of PEFT's model, tuner, layer, allocator and configuration: same or listed."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
import torch
from torch import nn

import adalora_core
from adalora_core import peft_names
from tests.support.toy_models import TwoLayer, tiny_llama, two_layer_batch

peft = pytest.importorskip("peft")

SETTINGS: dict[str, Any] = {
    "init_r": 6,
    "target_r": 3,
    "tinit": 2,
    "tfinal": 5,
    "deltaT": 2,
    "total_step": 20,
    "lora_alpha": 16,
    "orth_reg_weight": 0.0,  # PEFT adds no penalty without a task type
    "target_modules": ["first", "second"],
}
UPLOADS = {"create_or_update_model_card", "push_to_hub"}
"""Names of the model that the tests of the Hub cover."""


def made(library: Any, base: nn.Module | None = None, **changes: Any) -> Any:
    torch.manual_seed(0)
    return library.get_peft_model(
        base or TwoLayer(), library.AdaLoraConfig(**SETTINGS | changes), "default"
    )


def own_names(*owners: Any) -> set[str]:
    """Return the public names that the owners have and a plain module has not."""
    plain = {*dir(nn.Module()), *dir(object)}
    return {name for owner in owners for name in dir(owner) if name[0] != "_"} - plain


def llama(library: Any) -> Any:
    targets = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    return made(library, tiny_llama(), **targets)


def surfaces() -> dict[str, tuple[set[str], Any, dict[str, str]]]:
    """Return, per part of PEFT, its names, our counterpart and the reasons for missing names."""
    theirs, ours = made(peft), made(adalora_core)
    tasks = [*peft.auto.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.values()]
    model_names = own_names(llama(peft), *tasks)
    for task in tasks:
        model_names |= {*re.findall(r"self\.([a-z]\w+) = ", inspect.getsource(task))}
    base_names = own_names(tiny_llama())
    reasons = peft_names.MODEL | peft_names.TUNER
    layers = [each.base_model.model.first for each in (theirs, ours)]
    kernels = [
        made(library, nn.Sequential(nn.Conv2d(1, 2, 3)), target_modules=["0"]).base_model.model[0]
        for library in (peft, adalora_core)
    ]
    return {
        "model": (model_names - base_names - UPLOADS, llama(adalora_core), reasons),
        "tuner": (own_names(theirs.base_model) - {*dir(TwoLayer())}, ours.base_model, reasons),
        "layer": (own_names(layers[0]), layers[1], peft_names.LAYER),
        "convolution": (own_names(kernels[0]), kernels[1], peft_names.LAYER),
        "allocator": (
            own_names(theirs.base_model.rankallocator),
            ours.base_model.rankallocator,
            peft_names.ALLOCATOR,
        ),
        "configuration": (
            own_names(theirs.peft_config["default"]),
            ours.peft_config["default"],
            peft_names.CONFIG,
        ),
    }


PARTS = ("model", "tuner", "layer", "convolution", "allocator", "configuration")


@pytest.mark.parametrize("part", PARTS)
def test_every_name_of_peft_is_there_or_listed_with_a_reason(part: str) -> None:
    theirs, ours, reasons = surfaces()[part]
    there = {name for name in theirs if hasattr(ours, name)}
    assert theirs - there - reasons.keys() == set(), "neither there nor listed"
    assert there & reasons.keys() - {"rankallocator", "trainable_adapter_name"} == set()
    for name in theirs - there:
        with pytest.raises(AttributeError, match=f"has no '{name}': PEFT's name "):
            getattr(ours, name)


@pytest.mark.skipif(not peft.__version__.startswith("0.21."), reason="the lists are of PEFT 0.21")
def test_the_lists_name_nothing_that_peft_does_not_have() -> None:
    found = surfaces()
    model = found["model"][0] | found["tuner"][0] | adapter_mixins()
    model |= {"add_adapter", "load_adapter", "push_to_hub", "save_pretrained"}
    assert (peft_names.MODEL | peft_names.TUNER).keys() - model == set()
    for part, reasons in (
        ("allocator", peft_names.ALLOCATOR),
        ("configuration", peft_names.CONFIG),
    ):
        assert reasons.keys() - found[part][0] == set()
    assert peft_names.LAYER.keys() - found["layer"][0] - found["convolution"][0] == set()


def adapter_mixins() -> set[str]:
    """Return the public methods by which base models handle adapters of their own."""
    from transformers.integrations import PeftAdapterMixin

    names = {name for name in vars(PeftAdapterMixin) if name[0] != "_"}
    try:
        from diffusers.loaders import PeftAdapterMixin as OfDiffusers
    except ImportError:
        return names | {name for name in peft_names.MODEL if "lora" in name or "adapters" in name}
    return names | {name for name in vars(OfDiffusers) if name[0] != "_"}


def test_no_name_that_means_the_adapter_reaches_the_base_model() -> None:
    from transformers.integrations import PeftAdapterMixin

    model = llama(adalora_core)
    for name in adapter_mixins() | {"save_pretrained"}:
        for owner in (model, model.base_model):
            inherited = getattr(PeftAdapterMixin, name, None)
            found = getattr(owner, name, None)
            assert getattr(found, "__func__", found) is not inherited or inherited is None, name
            assert getattr(found, "__self__", None) is not model.get_base_model(), name


def test_a_second_base_class_does_not_answer_for_the_model() -> None:
    model = made(adalora_core)
    model.__class__ = type("Both", (type(model), peft.PeftModel), {})
    assert model.get_layer_status()[0].name == "model.first"
    assert model.peft_type == "ADALORA"
    with pytest.raises(AttributeError, match="prompt learning"):
        model.get_prompt  # noqa: B018


def test_an_unknown_name_names_the_class_of_the_model() -> None:
    model = made(adalora_core)
    with pytest.raises(AttributeError, match="AdaLoraModel has no attribute 'nonsense', and"):
        model.nonsense  # noqa: B018
    assert model.head is model.get_base_model().head


class Failing(TwoLayer):
    @property
    def broken(self) -> int:
        raise AttributeError("a reason of its own")


def test_an_error_inside_a_property_of_the_base_model_stays() -> None:
    with pytest.raises(AttributeError, match=r"broken|a reason of its own"):
        made(adalora_core, Failing()).broken  # noqa: B018


# --- the same values ------------------------------------------------------------------------------


def numbers_of(library: Any) -> dict[str, Any]:
    """Train as scripts for PEFT do, and return what PEFT's names show on the way."""
    config = library.AdaLoraConfig(**SETTINGS)
    torch.manual_seed(0)
    base = TwoLayer()
    model = library.get_peft_model(base, config)
    found: dict[str, Any] = {"identity": model.peft_config["default"] is config}
    found["drawn"] = {n: p.detach().clone() for n, p in model.named_parameters() if "ora_" in n}
    found["generator"] = torch.rand(3)
    allocator = model.base_model.rankallocator
    found["budgets"] = [allocator.budget_schedule(step) for step in range(25)]
    for name in ("init_bgt", "target_bgt", "name_set", "adapter_name", "beta1", "beta2"):
        found[name] = getattr(allocator, name)
    allocator.set_total_step(22)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    assert isinstance(allocator.ipt, dict)  # recorded from now on
    for step in range(22):
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        for name in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            values = getattr(model.base_model.rankallocator, name)
            found[f"{name} {step}"] = {key: each.clone() for key, each in values.items()}
        pattern = model.peft_config["default"].rank_pattern
        found[f"pattern {step}"] = json.dumps(pattern, sort_keys=True)
        optimizer.zero_grad()
    layer = model.base_model.model.second
    for name in ("r", "scaling", "lora_alpha", "merged", "disable_adapters", "active_adapter"):
        found[name] = getattr(layer, name)
    found["delta"] = {"": layer.get_delta_weight("default").detach()}
    found["in file"] = library.get_peft_model_state_dict(model)
    found["layer status"] = [vars(each) for each in library.get_layer_status(model)]
    found["model status"] = vars(library.get_model_status(model)) | {"total_params": 0}
    return found


def test_the_names_show_the_values_of_peft() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        theirs, ours = numbers_of(peft), numbers_of(adalora_core)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if isinstance(expected, dict) and any(map(torch.is_tensor, expected.values())):
            assert ours[name].keys() == {k for k in expected if "ranknum" not in k}, name
            for key, value in ours[name].items():
                atol, rtol = (0.0, 0.0) if name == "drawn" else (1e-9, 1e-6)
                torch.testing.assert_close(value, expected[key], atol=atol, rtol=rtol)
        elif torch.is_tensor(expected):
            assert torch.equal(ours[name], expected), name
        else:
            assert ours[name] == expected, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"init_lora_weights": False}])
def test_the_same_seed_gives_the_adapter_of_peft(dtype: torch.dtype, changes: Any) -> None:
    drawn = []
    for library in (peft, adalora_core):
        base = nn.Sequential(nn.Linear(7, 5), nn.Conv2d(1, 2, 3)).to(dtype)
        model = made(library, base, target_modules=["0", "1"], **changes)
        values = {n: p.detach() for n, p in model.named_parameters() if ".lora_" in n}
        drawn.append((values, torch.rand(2)))
    (theirs, their_rest), (ours, our_rest) = drawn
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(our_rest, their_rest)


def test_functions_of_peft_report_the_method() -> None:
    theirs, ours = made(peft), made(adalora_core)
    for model in (theirs, ours):
        assert peft.get_model_status(model).peft_types == {"default": "ADALORA"}
        for owner in (model, model.base_model, model.peft_config["default"]):
            assert getattr(owner, "peft_type", "ADALORA") == peft.PeftType.ADALORA
    config = ours.peft_config["default"]
    assert config.peft_type.value == "ADALORA"
    assert type(config.to_dict()["peft_type"]) is type(config.model_dump()["peft_type"]) is str
    config.peft_type = "ADALORA"
    assert "peft_type='ADALORA'" in repr(config)


def pruned() -> Any:
    """Return a model that has dropped triplets and is at the end of its schedule."""
    model = made(adalora_core)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.update_and_allocate(global_step=step)
        optimizer.zero_grad()
    return model.eval()


def test_functions_of_peft_pass_a_pruned_adapter_on() -> None:
    model = pruned()
    pattern = dict(model.peft_config["default"].rank_pattern)
    state = peft.get_peft_model_state_dict(model)
    assert model.peft_config["default"].rank_pattern == pattern
    assert {n: tuple(t.shape) for n, t in state.items()} == {
        n: tuple(t.shape) for n, t in adalora_core.get_peft_model_state_dict(model).items()
    }
    other = made(adalora_core).eval()
    assert other(**two_layer_batch(1)).loss != model(**two_layer_batch(1)).loss
    held = dict(other.named_parameters())
    other.peft_config["default"].rank_pattern = pattern
    assert not peft.set_peft_model_state_dict(other, state).unexpected_keys
    assert other.peft_config["default"].rank_pattern == pattern
    assert {name: id(each) for name, each in other.named_parameters()} == {
        name: id(each) for name, each in held.items()
    }
    torch.testing.assert_close(other(**two_layer_batch(1)).loss, model(**two_layer_batch(1)).loss)


def test_resizing_keeps_what_the_model_computes() -> None:
    model = pruned()
    before = model(**two_layer_batch(1)).loss
    pattern = model.peft_config["default"].rank_pattern
    model.resize_modules_by_rank_pattern(pattern, "default")
    assert [each.rank("default") for each in model.base_model.layers()] == [
        sum(kept) for kept in pattern.values()
    ]
    torch.testing.assert_close(model(**two_layer_batch(1)).loss, before)
    model.resize_modules_by_rank_pattern({key: [True] * 6 for key in pattern}, "default")
    torch.testing.assert_close(model(**two_layer_batch(1)).loss, before)
