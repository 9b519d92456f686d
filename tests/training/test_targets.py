"""Which modules a configuration means: the same as in PEFT, or a clear refusal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pace
import peft
import pytest
import torch
from adalora_runs import LIBRARIES, LOADERS, SETTINGS, make
from torch import nn
from toy_models import TwoLayer, tiny_llama, token_batch

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.config.findings import ConfigError
from adalora_core.floor.errors import RunWarning, TargetError
from adalora_core.floor.module_selection import ModuleSelection, PathEnds
from adalora_core.nn import AdaLoraLayer

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
            (
                {"target_modules": ["nothing"]},
                r"\['nothing'\] matches no module of TwoLayer.* called: first, head, second",
            ),
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

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("layer_replication", [[0, 1]]),
            ("ensure_weight_tying", True),
            ("trainable_token_indices", [1]),
        ],
    )
    @pytest.mark.filterwarnings("ignore::adalora_core.ConfigWarning")
    def test_a_field_that_only_peft_honours_is_named(self, field: str, value: Any) -> None:
        config = AdaLoraConfig(**{**SETTINGS, field: value})
        base = TwoLayer()
        with pytest.raises(ValueError, match=rf"{field}: .* model with adalora_core\.peft"):
            get_peft_model(base, config)
        assert type(base.first) is nn.Linear

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


def test_entry_of_a_list_to_exclude_is_a_name_and_no_expression() -> None:
    # adalora: ignore[ADA506] - what the test is about
    config = AdaLoraConfig(**{**SETTINGS, "target_modules": ["q_proj"], "exclude_modules": ["("]})
    with pytest.warns(RunWarning, match="exclude_modules '\\(' matches no module"):
        get_peft_model(tiny_llama(), config)


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        (["classifier"], "pre_classifier", "classifier"),
        (["norm"], "layers.0.input_layernorm.inner", "norm"),
        (["layers.0.norm", "m"], "layers.0.norm", "m"),
        (["0.norm"], "layers.10.norm.a", "0.norm"),
        (["norm"], "normal.norms", None),
        ([""], "a", ""),
        ([], "a.b", None),
    ],
)
def test_a_name_to_save_means_every_path_that_ends_with_it(
    names: list[str], path: str, expected: str | None
) -> None:
    assert PathEnds(names).around(path) == expected


def test_long_names_to_save_and_long_paths_take_one_search_for_each_part() -> None:
    names = [f"{'a.' * length}{end}" for length in range(64) for end in "ab"]
    saved = PathEnds(f"y{number}.{name}" for number, name in enumerate(names * 40))
    paths = [f"x{number}." + "a." * 62 + "c" for number in range(5000)]
    with pace.measured() as spent:
        assert all(saved.around(path) is None for path in paths)
    assert spent.seconds < 4


@pytest.mark.parametrize("pattern", ["", None, [], "layers"])
def test_layers_are_counted_in_any_list_where_no_pattern_names_one(pattern: Any) -> None:
    selection = ModuleSelection(["q"], layers=[1], layers_pattern=pattern)
    assert selection.includes("model.layers.1.q")
    assert not selection.includes("model.layers.0.q")


def test_many_names_and_paths_of_many_parts_take_one_search_for_each_path() -> None:
    names = [f"l{number}.q" for number in range(50_000)]
    selection = ModuleSelection(names, exclude=[f"x{name}" for name in names])
    paths = ["a." * 5000 + name for name in names[:2000]]
    with pace.measured() as spent:
        assert all(selection.includes(path) and not selection.excludes(path) for path in paths)
    assert spent.seconds < 4


def distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "dim": 16, "hidden_dim": 16, "n_layers": 1, "n_heads": 2}
    return DistilBertForSequenceClassification(DistilBertConfig(**sizes))


SAVED = {
    "the heads of a task": (
        distilbert,
        {"target_modules": ["q_lin"], "task_type": "SEQ_CLS"},
        ["classifier", "pre_classifier"],
    ),
    "an end of a name": (
        tiny_llama,
        {"target_modules": ["q_proj"], "modules_to_save": ["norm"]},
        ["input_layernorm", "norm", "post_attention_layernorm"],
    ),
}


@pytest.mark.parametrize("case", SAVED)
@pytest.mark.parametrize("library", LIBRARIES)
def test_modules_to_save_are_those_of_peft_and_their_files_load_everywhere(
    library: str, case: str, tmp_path: Path
) -> None:
    base, settings, names = SAVED[case]
    model = make(library, base(), **settings)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        nn.init.normal_(parameter)
    tokens = token_batch(0)["input_ids"]
    expected = model.eval()(tokens).logits
    model.save_pretrained(tmp_path)
    for loader in LOADERS.values():
        drawn = base()
        for name, module in drawn.named_modules():
            if name.rpartition(".")[2] in names:  # as heads are, which a pretrained model lacks
                nn.init.normal_(module.weight)
        loaded = loader.from_pretrained(drawn, tmp_path).eval()
        wrapped = [
            path for path, each in loaded.named_modules() if hasattr(each, "original_module")
        ]
        assert sorted({path.rpartition(".")[2] for path in wrapped}) == names
        torch.testing.assert_close(loaded(tokens).logits, expected)


class Parts(nn.Module):
    """A block whose name ends as that of a layer, and a list of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.q, self.my_q = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.my_mlp = nn.Sequential(nn.Linear(4, 4))
        self.towers = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x) + self.q(x) + self.my_q(x) + self.my_mlp(x) + self.towers[0](x)


def test_a_target_that_is_trained_whole_gets_no_adapter_where_peft_breaks(tmp_path: Path) -> None:
    settings = {"target_modules": ["0", "q", "my_q"], "modules_to_save": ["mlp", "y_q"]}
    torch.manual_seed(0)
    base = Parts()
    with pytest.raises(TypeError, match="cannot be applied to modules of type"):
        make("peft", copy.deepcopy(base), **settings)
    model = make("adalora_core", copy.deepcopy(base), **settings)
    assert [*model.base_model.adapters["default"].layers] == ["q", "towers.0"]
    for parameter in (each for each in model.parameters() if each.requires_grad):
        nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    loaded = AdaLoraModel.from_pretrained(copy.deepcopy(base), tmp_path)
    x = torch.randn(2, 4)
    torch.testing.assert_close(loaded(x), model.eval()(x))


@pytest.mark.parametrize("name", ["towers", "ers"])
def test_modules_that_cannot_be_trained_whole_are_refused_as_in_peft(name: str) -> None:
    base = Parts()
    config = AdaLoraConfig(**{**SETTINGS, "target_modules": ["mlp"], "modules_to_save": [name]})
    with pytest.raises(TargetError, match=r"modules_to_save: .* cannot be trained whole"):
        get_peft_model(base, config)
    assert type(base.mlp) is nn.Linear
