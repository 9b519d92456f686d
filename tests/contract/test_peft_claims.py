"""Errors of the rules break PEFT too: at construction, at injection, or at step N."""

from __future__ import annotations

import json
import re
import traceback
import warnings

import peft
import pytest
import torch

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import BY_CODE, RULES, explained
from adalora_core.config.rules.base import SOUND

SHORT = {"tinit": 2, "tfinal": 3, "total_step": 12, "deltaT": 1}
"""A schedule that a test can run to its end."""

TOY_SETTINGS = {"ADA409": {"target_parameters": ["q_proj.weight"], "target_modules": ["v_proj"]}}
"""Settings of an example that must name modules of the toy model."""

ABOUT_THE_SCHEDULE = {"ADA201", "ADA202"}


class Toy(torch.nn.Module):
    """Two adapted matrices."""

    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(16, 16)
        self.v_proj = torch.nn.Linear(16, 16)

    def forward(self, x):
        return self.v_proj(torch.relu(self.q_proj(x)))


class Nested(torch.nn.Module):
    """The toy under the names of a transformer, behind an embedding."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(8, 16)
        self.layers = torch.nn.ModuleList([torch.nn.ModuleDict({"self_attn": Toy()})])

    def forward(self, x):
        x = self.embed_tokens(x.abs().long().clamp(max=7)[:, 0])
        return self.layers[0]["self_attn"](x)


def _train(config, base=Toy):
    """Train with PEFT as a user does, to the last step; return the state of the model."""
    torch.manual_seed(0)
    config = {name: value for name, value in config.items() if name != "peft_type"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base(), peft.AdaLoraConfig(**config))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(config["total_step"]):
            model(torch.randn(4, 16)).square().mean().backward()
            optimizer.step()
            model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
    return model.state_dict()


def test_sound_configuration_trains():
    assert _train(SOUND | SHORT)
    assert _train(SOUND | SHORT, Nested)


IGNORED = {
    "use_rslora": True,
    "alpha_pattern": {"q_proj": 64},
    "megatron_config": {"a": 1},
    "megatron_core": "other",
    "eva_config": {"a": 1},
    "corda_config": {"a": 1},
    "lora_ga_config": {"a": 1},
    "velora_config": {"a": 1},
    "use_qalora": True,
    "qalora_group_size": 4,
    "lora_bias": True,
    "use_bdlora": {"a": 1},
    "arrow_config": {"a": 1},
    "kasa_config": {"a": 1},
    "r": 32,
    "init_lora_weights": "pissa",
}


@pytest.mark.parametrize(
    ("name", "value"), [*IGNORED.items(), ("init_lora_weights", "lora")], ids=str
)
def test_setting_called_ignored_leaves_every_trained_number_as_it_is(name, value):
    plain, other = _train(SOUND | SHORT), _train(SOUND | SHORT | {name: value})
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[key], other[key]) for key in plain)


def test_setting_that_counts_changes_the_trained_numbers():
    # Without this the test above could pass because nothing is trained.
    plain, other = _train(SOUND | SHORT), _train(SOUND | SHORT | {"lora_alpha": 64})
    assert any(not torch.equal(plain[key], other[key]) for key in plain)


BREAKS = {
    "ADA102": TypeError,
    "ADA103": AssertionError,
    "ADA106": TypeError,
    "ADA107": NotImplementedError,
    "ADA201": ValueError,
    "ADA202": ValueError,
    "ADA204": ZeroDivisionError,
    "ADA301": RuntimeError,
    "ADA302": RuntimeError,
    "ADA401": ValueError,
    "ADA402": (ValueError, ImportError),
    "ADA403": ValueError,
    "ADA404": ValueError,
    "ADA409": TypeError,
    "ADA212": RuntimeError,
    "ADA424": ValueError,
    "ADA418": ValueError,
    "ADA421": ValueError,
    "ADA501": re.error,
    "ADA504": ValueError,
    "ADA505": ValueError,
    "ADA507": ValueError,
    "ADA508": ValueError,
    "ADA509": ValueError,
    "ADA511": ValueError,
    "ADA512": ValueError,
}

IN_NESTED = {"ADA504", "ADA508", "ADA509", "ADA512"}
"""Codes whose names are not at the top of a model."""


@pytest.mark.parametrize("code", BREAKS)
def test_bad_example_of_a_rule_breaks_peft(code):
    bad = BY_CODE[code].bad | TOY_SETTINGS.get(code, {})
    if code not in ABOUT_THE_SCHEDULE:
        bad = bad | {name: value for name, value in SHORT.items() if bad[name] == SOUND[name]}
    with pytest.raises(BREAKS[code]) as caught:
        _train({"total_step": None, **bad}, Nested if code in IN_NESTED else Toy)
    if BY_CODE[code].errors and str(caught.value):
        assert code in _explained(caught.value)


def test_targets_of_another_architecture_are_refused_in_the_words_of_the_rule():
    from transformers import GPT2Config, GPT2LMHeadModel

    bad = BY_CODE["ADA513"].bad
    (found,) = check_config(bad).errors
    assert found.message.startswith("Target modules {'q_proj', 'v_proj'} not found in the base")
    tokens = {"vocab_size": 8, "bos_token_id": 1, "eos_token_id": 2}
    base = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, **tokens))
    changes = {"base_model_name_or_path": None, "fan_in_fan_out": True}
    fields = _without_type(bad | changes)
    with pytest.raises(ValueError, match=r"Target modules \{.*\} not found in the base model"):
        peft.get_peft_model(base, peft.AdaLoraConfig(**fields))
    assert found.hint.endswith('such as ["c_attn"]')
    peft.get_peft_model(base, peft.AdaLoraConfig(**fields | {"target_modules": ["c_attn"]}))


def test_pattern_in_loras_form_breaks_the_loading(tmp_path):
    model = peft.get_peft_model(Toy(), peft.AdaLoraConfig(**_without_type(SOUND)))
    model.peft_config["default"].rank_pattern = None
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(file.read_text().replace('"rank_pattern": null', '"rank_pattern": {"q": 16}'))
    with pytest.raises(TypeError, match="Unexpected type of rank_idx"):
        peft.PeftModel.from_pretrained(Toy(), tmp_path)


class WithTokens(Toy):
    """The toy behind an embedding, as `trainable_token_indices` needs one."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(8, 16)

    def forward(self, x):
        return super().forward(self.embed_tokens(x))


@pytest.mark.parametrize(
    ("indices", "error"),
    [([-1], IndexError), ([], RuntimeError), ({"embed_tokens": []}, RuntimeError), ([0, 7], None)],
)
def test_token_indices_called_broken_break_the_first_forward(indices, error):
    settings = _without_type(SOUND | SHORT | {"trainable_token_indices": indices})
    model = peft.get_peft_model(WithTokens(), peft.AdaLoraConfig(**settings))
    codes = [d.code for d in check_config(SOUND | {"trainable_token_indices": indices}).errors]
    if error is None:
        assert model(torch.tensor([0, 7])).shape == (2, 16)
        assert codes == []
    else:
        with pytest.raises(error):
            model(torch.tensor([0, 7]))
        assert codes == ["ADA423"]


def _without_type(config):
    return {name: value for name, value in config.items() if name != "peft_type"}


def _explained(error):
    """The codes that `adalora explain` names for an error, as its traceback is pasted."""
    return [rule.code for rule in explained("".join(traceback.format_exception(error)))]


def _model(base=Toy, **changes):
    return peft.get_peft_model(base(), peft.AdaLoraConfig(**_without_type(SOUND | SHORT | changes)))


def _allocate(model, step, backward=True):
    if backward:
        model(torch.randn(4, 16)).square().mean().backward()
    model.base_model.update_and_allocate(step)


def _loaded(folder, **changes):
    """Save an adapter that is trained to its end, change its file, and load it."""
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(12):
        model(torch.randn(4, 16)).square().mean().backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    model.save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return peft.PeftModel.from_pretrained(Toy(), folder)


def _assign(field, value, steps):
    model = _model()
    setattr(model.peft_config["default"], field, value)
    for step in steps:
        _allocate(model, step)


def _pattern_of_another_training():
    model = _model()
    model.peft_config["default"].rank_pattern = {"q_proj.lora_E": [True] * 12}
    _allocate(model, 10)


def _merge_nan():
    model = _model()
    model.base_model.model.q_proj.lora_A["default"].data.fill_(float("nan"))
    model.merge_and_unload(safe_merge=True)


def _merge_quantised():
    class Quantised(Toy):
        def __init__(self):
            super().__init__()
            self.is_loaded_in_4bit = True
            self.q_proj = pytest.importorskip("bitsandbytes").nn.Linear4bit(16, 16)

    _model(Quantised).merge_and_unload()


def _through_ddp():
    group = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=group, rank=0, world_size=1)
    try:
        torch.nn.parallel.DistributedDataParallel(_model()).base_model.update_and_allocate(0)
    finally:
        torch.distributed.destroy_process_group()


def _in_a_callback():
    def on_step_end():
        _allocate(_model(), 0, backward=False)

    on_step_end()


def _plain_lora():
    model = peft.get_peft_model(Toy(), peft.LoraConfig(target_modules=["q_proj"]))
    model.base_model.update_and_allocate(0)


def _fault(warning, **changes):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", warning)
        _model(**changes)


def _lora(**changes):
    settings = {"target_modules": ["q_proj", "v_proj"]} | changes
    return peft.get_peft_model(Toy(), peft.LoraConfig(**settings))


SAID = [
    ("ADA103", lambda _: _lora(r=0)),
    ("ADA104", lambda _: _lora(rank=8)),
    ("ADA107", lambda _: _lora(task_type="CAUSALLM")),
    ("ADA313", lambda _: _lora(rank_pattern={"v_proj": 0})),
    ("ADA425", lambda _: _lora(init_lora_weights="kaiming")),
    ("ADA425", lambda _: _lora(init_lora_weights="loftq")),
    ("ADA427", lambda _: _lora(use_dora=True, lora_bias=True)),
    ("ADA427", lambda _: _lora(use_dora=True, megatron_config={"a": 1})),
    ("ADA513", lambda _: _lora(target_modules=["attn"])),
    ("ADA955", lambda _: _lora(inference_mode=True)(torch.randn(2, 16)).sum().backward()),
    ("ADA104", lambda _: _model(delta_t=3)),
    ("ADA105", lambda _: _plain_lora()),
    ("ADA105", lambda _: peft.get_peft_config({"peft_type": "adalora"})),
    ("ADA107", lambda _: _model(task_type="CLASSIFICATION")),
    ("ADA107", lambda _: _model(bias="lora")),
    ("ADA201", lambda _: _model(total_step=None)),
    ("ADA201", lambda _: _assign("total_step", None, [0])),
    ("ADA202", lambda _: _model(tinit=9)),
    ("ADA202", lambda _: _assign("tfinal", 10, range(12))),
    ("ADA303", lambda _: _fault("Note that `r`", r=4)),
    ("ADA304", lambda folder: _loaded(folder, rank_pattern={"q_proj": 8})),
    ("ADA304", lambda folder: _loaded(folder, init_r=10)),
    ("ADA305", lambda folder: _loaded(folder, rank_pattern={"q_proj.lora_E": [True] * 12})),
    ("ADA308", lambda folder: _loaded(folder, rank_pattern=None)),
    ("ADA309", lambda folder: _loaded(folder, rank_pattern={"q_proj": [True] * 12})),
    ("ADA312", lambda folder: _loaded(folder, rank_pattern={"a.b.lora_E": [True] * 12})),
    ("ADA312", lambda folder: _loaded(folder, target_modules=["q_proj"])),
    ("ADA312", lambda _: _pattern_of_another_training()),
    ("ADA414", lambda _: _model(target_modules=None)),
    ("ADA511", lambda _: _model(WithTokens, exclude_modules=["q_proj", "v_proj"])),
    ("ADA511", lambda _: _model(modules_to_save=["q_proj", "v_proj"])),
    ("ADA513", lambda _: _model(target_modules=["query"])),
    ("ADA806", lambda _: _merge_nan()),
    ("ADA808", lambda _: _allocate(_model(), 10)),
    ("ADA819", lambda _: _merge_nan()),
    ("ADA821", lambda _: _allocate(_model(), 0, backward=False)),
    ("ADA907", lambda _: _allocate(_model(), 0, backward=False)),
    ("ADA908", lambda _: _in_a_callback()),
    ("ADA920", lambda folder: _loaded(folder)(torch.randn(2, 16)).sum().backward()),
    ("ADA920", lambda folder: torch.optim.SGD(filter(_trains, _loaded(folder).parameters()))),
    ("ADA921", lambda _: _model(target_modules=["query"])),
    ("ADA925", lambda _: _model().add_adapter("b", peft.AdaLoraConfig(**_without_type(SOUND)))),
    ("ADA925", lambda _: _model().add_weighted_adapter(["default"], [1.0], "b")),
    ("ADA925", lambda _: _merge_quantised()),
    ("ADA929", lambda _: _through_ddp()),
]
"""Rules that quote an error, each with what raises it here."""
_OF_OTHER_RELEASES = {"Unexcepted type of rank_idx"}
"""Errors of other releases of PEFT than the installed one."""


def _trains(parameter):
    return parameter.requires_grad


@pytest.mark.filterwarnings("ignore")
def test_errors_that_rules_quote_are_raised_and_explained(tmp_path):
    texts = dict.fromkeys(BREAKS, "")
    for code, fault in SAID:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of any class
            fault(tmp_path)
        assert code in _explained(caught.value), caught.value
        texts[code] = texts.get(code, "") + "".join(traceback.format_exception(caught.value))
    quoted = [(rule.code, error) for rule in RULES for error in rule.errors]
    assert {code for code, _ in quoted} <= texts.keys()
    for code, error in quoted:
        if texts[code] and error not in _OF_OTHER_RELEASES:
            assert error.rpartition("...")[2].strip() in texts[code], code
