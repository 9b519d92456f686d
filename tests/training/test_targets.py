"""Which modules a configuration means: the same as in PEFT, or a clear refusal."""

from __future__ import annotations

from typing import Any

import pace
import peft
import pytest
import torch
from adalora_runs import SETTINGS
from torch import nn
from toy_models import TwoLayer, tiny_llama

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.contract import ConfigError
from adalora_core.errors import RunWarning, TargetError
from adalora_core.module_selection import NamesInside
from adalora_core.nn import AdaLoraLayer
from adalora_core.training.targets import unmatched_entries

SELECTIONS = [
    pytest.param({"target_modules": ["q_proj", "v_proj"]}, id="list"),
    pytest.param({"target_modules": ["model.layers.1.self_attn.q_proj"]}, id="whole-path"),
    pytest.param({"target_modules": r".*\.0\..*_proj"}, id="regular-expression"),
    pytest.param({"target_modules": "all-linear"}, id="all-linear"),
    pytest.param({"target_modules": None}, id="default-of-the-architecture"),
    pytest.param({"target_modules": "All-Linear"}, id="all-linear-in-another-case"),
    pytest.param(
        {"target_modules": ["model.layers.2.mlp.up_proj", "q_proj"], "layers_to_transform": 1},
        id="whole-path-of-another-layer",
    ),
    pytest.param(
        {"target_modules": "all-linear", "exclude_modules": ["down_proj", "q_proj"]},
        id="exclude-list",
    ),
    pytest.param(
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*\.0\..*"},
        id="exclude-regular-expression",
    ),
    pytest.param({"target_modules": ["q_proj"], "layers_to_transform": 1}, id="one-layer"),
    pytest.param(
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, id="several-layers"
    ),
    pytest.param(
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
        id="layers-pattern",
    ),
    pytest.param(
        {"target_modules": "all-linear", "modules_to_save": ["down_proj"]}, id="modules-to-save"
    ),
]


def adapted_paths(model: nn.Module, layer: type) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, layer)]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_adapted_modules_are_those_of_peft(selection: dict[str, Any]) -> None:
    settings = {**SETTINGS, "task_type": "CAUSAL_LM", **selection}
    theirs = peft.get_peft_model(tiny_llama(layers=3), peft.AdaLoraConfig(**settings))
    ours = get_peft_model(tiny_llama(layers=3), AdaLoraConfig(**settings))
    expected = adapted_paths(theirs, peft.tuners.adalora.SVDLinear)
    assert expected
    assert adapted_paths(ours, AdaLoraLayer) == expected


@pytest.mark.parametrize("task", ["SEQ_CLS", None])
def test_task_heads_are_trained_whole_or_adapted_as_in_peft(task: str | None) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    def model() -> nn.Module:
        torch.manual_seed(0)
        return BertForSequenceClassification(
            BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
        )

    settings = {**SETTINGS, "task_type": task, "target_modules": "all-linear"}
    theirs = peft.get_peft_model(model(), peft.AdaLoraConfig(**settings))
    ours = get_peft_model(model(), AdaLoraConfig(**settings))
    names = [
        sorted(name for name, each in made.named_parameters() if each.requires_grad)
        for made in (theirs, ours)
    ]
    assert names[1] == names[0]
    assert any("classifier" in name for name in names[1])


class TestRefusals:
    """Each is a clear error that names the module, and the model is unchanged."""

    @pytest.mark.parametrize(
        ("selection", "message"),
        [
            ({"target_modules": ["nothing"]}, r"\['nothing'\] matches no module of TwoLayer"),
            ({"target_modules": "no.*match"}, "the regular expression 'no.*match'"),
            ({"target_modules": None}, "please specify"),
            (
                {"target_modules": ["first"], "exclude_modules": ["first"]},
                "1 matched, all of them excluded",
            ),
        ],
    )
    def test_nothing_to_adapt(self, selection: dict[str, Any], message: str) -> None:
        base = TwoLayer()
        with pytest.raises(TargetError, match=message):
            get_peft_model(base, AdaLoraConfig(**{**SETTINGS, **selection}))
        assert type(base.first) is nn.Linear

    def test_the_message_lists_what_there_is(self) -> None:
        with pytest.raises(TargetError, match="called: first, head, second"):
            get_peft_model(TwoLayer(), AdaLoraConfig(**{**SETTINGS, "target_modules": ["nothing"]}))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("layer_replication", [[0, 1]]),
            ("trainable_token_indices", [1]),
            ("ensure_weight_tying", True),
        ],
    )
    @pytest.mark.filterwarnings("ignore::adalora_core.contract.ConfigWarning")
    def test_a_field_that_only_peft_honours_is_named(self, field: str, value: Any) -> None:
        config = AdaLoraConfig(**{**SETTINGS, field: value})
        with pytest.raises(ValueError, match=f"{field}: not supported by adalora_core"):
            get_peft_model(TwoLayer(), config)

    def test_an_unsupported_target_changes_nothing(self) -> None:
        base = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1))
        with pytest.raises(TargetError, match=r"'1' \(Conv1d\) is not supported"):
            get_peft_model(base, AdaLoraConfig(**{**SETTINGS, "target_modules": ["0", "1"]}))
        assert type(base[0]) is nn.Linear
        assert all(each.requires_grad for each in base.parameters())


def test_key_of_an_ignored_pattern_that_is_no_expression_is_named() -> None:
    config = AdaLoraConfig(**{**SETTINGS, "target_modules": ["q_proj"]})
    config.alpha_pattern = {"(": 1}
    with pytest.raises(
        ConfigError, match="the key '\\(' of `alpha_pattern` is not a valid regular"
    ):
        get_peft_model(tiny_llama(), config)
    with pytest.raises(TargetError, match="alpha_pattern: '\\(' is not a valid regular expression"):
        unmatched_entries(config, ["q_proj"])


def test_entry_of_a_list_to_exclude_is_a_name_and_no_expression() -> None:
    # adalora: ignore[ADA506] - what the test is about
    config = AdaLoraConfig(**{**SETTINGS, "target_modules": ["q_proj"], "exclude_modules": ["("]})
    with pytest.warns(RunWarning, match="exclude_modules '\\(' matches no module"):
        get_peft_model(tiny_llama(), config)


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        (["mlp", "0.mlp", "q"], "layers.0.mlp.up", {"mlp", "0.mlp"}),
        (["a.b.a.c", "b.a"], "x.a.b.a.b.a.c", {"a.b.a.c", "b.a"}),
        (["a.b", "b.c"], "a.c.b", set()),
        (["", "a"], "b.a", {"a"}),
        ([], "a.b", set()),
    ],
)
def test_names_inside_a_path_are_whole_parts_in_a_row(
    names: list[str], path: str, expected: set[str]
) -> None:
    found: set[str] = set()
    inside = NamesInside(names)
    assert inside.add_found(path, found) is inside.are_in(path) is bool(expected)
    assert found == expected


def test_long_names_inside_long_paths_take_one_step_for_each_part() -> None:
    names = [".".join(["a"] * length) for length in range(1, 65)] + ["a." * 63 + "b"]
    inside = NamesInside(f"{'a.' * (number % 60)}{name}" for number, name in enumerate(names * 40))
    paths = [f"{number}." + "a." * 62 + "c" for number in range(5000)]
    found: set[str] = set()
    with pace.measured() as spent:
        assert all(inside.add_found(path, found) for path in paths)
    assert spent.seconds < 4
