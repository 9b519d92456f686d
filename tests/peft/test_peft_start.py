"""`init_lora_weights="lora"`: the start of PEFT's LoRA, by every door."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import SETTINGS, TARGET_BUDGET, final_ranks, live_ranks, optimizer_of, train
from peft.tuners.adalora import layer as peft_layers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from toy_models import TwoLayer, two_layer_batch
from transformers.pytorch_utils import Conv1D

import adalora_core
from adalora_core.bridge import attach, detach, uninstall

LORA = SETTINGS | {"init_lora_weights": "lora"}  # adalora: ignore[ADA407] - bridged or attached
INIT_R, ALPHA = SETTINGS["init_r"], SETTINGS["lora_alpha"]
SEED = 3


def made(door: str, base: nn.Module, **changes: Any) -> Any:
    """Return an adapted model whose factors are drawn from `SEED`."""
    library = adalora_core if door == "adalora_core" else peft
    config = library.AdaLoraConfig(**LORA | changes)
    torch.manual_seed(SEED)
    model = library.get_peft_model(base, config)
    if door == "attached":
        torch.manual_seed(SEED)
        attach(model)
    return model


def loaded(door: str, folder: Path) -> Any:
    """Return a saved model to be trained."""
    if door != "attached":
        library = adalora_core.AdaLoraModel if door == "adalora_core" else peft.PeftModel
        return library.from_pretrained(two_layer(), folder, is_trainable=True)
    model = attach(peft.PeftModel.from_pretrained(two_layer(), folder, is_trainable=True))
    model.load_adapter(folder, "default", is_trainable=True)
    return model


def lora(base: nn.Module, **changes: Any) -> Any:
    """Return PEFT's LoRA, drawn from `SEED`."""
    settings = {"r": INIT_R, "lora_alpha": ALPHA, "target_modules": SETTINGS["target_modules"]}
    torch.manual_seed(SEED)
    return peft.get_peft_model(base, peft.LoraConfig(**settings | changes))


def factor(model: Any, path: str, letter: str, name: str = "default") -> torch.Tensor:
    """Return a factor of LoRA or AdaLoRA as a matrix."""
    found = getattr(model.base_model.model.get_submodule(path), f"lora_{letter}")[name]
    values = found.weight if isinstance(found, nn.Module) else found
    return values.detach().flatten(1)


def is_like_lora(model: Any, path: str = "first", name: str = "default") -> bool:
    """Return whether an adapter has E = 1 and B = 0."""
    E, B = (factor(model, path, letter, name) for letter in "EB")
    return bool((E == 1).all() and (B == 0).all())


def two_layer() -> nn.Module:
    """Return the same model at each call."""
    torch.manual_seed(1)
    return TwoLayer()


def two_linear(dtype: torch.dtype) -> nn.Module:
    """Return two linear layers of different sizes."""
    return nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 9)).to(dtype)


def quantised(kind: str) -> nn.Module:
    """Return a layer of torchao or bitsandbytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "torchao":
            torchao = pytest.importorskip("torchao.quantization")
            model = nn.Sequential(nn.Linear(32, 64))
            torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
            return model
        bnb: Any = pytest.importorskip("bitsandbytes")
    if kind == "4 bits":
        layer = bnb.nn.Linear4bit(64, 32, compute_dtype=torch.bfloat16).to("cpu")
    else:
        layer = bnb.nn.Linear8bitLt(64, 32, has_fp16_weights=False).to(torch.float16).to("cpu")
    model = nn.Sequential(layer)
    model.is_loaded_in_4bit = kind == "4 bits"  # type: ignore[assignment]  # PEFT's marks
    model.is_loaded_in_8bit = kind == "8 bits"  # type: ignore[assignment]
    return model


BASES: dict[str, Any] = {
    "float64": lambda: two_linear(torch.float64),
    "float32": lambda: two_linear(torch.float32),
    "bfloat16": lambda: two_linear(torch.bfloat16),
    "float16": lambda: two_linear(torch.float16),
    "conv1d": lambda: nn.Sequential(Conv1D(6, 4), Conv1D(3, 6)),
    "torchao": lambda: quantised("torchao"),
    "8 bits": lambda: quantised("8 bits"),
}
if hasattr(BaseTunerLayer, "_get_base_layer_device_and_dtype"):
    # PEFT 0.18 does not round to the dtype of the products.
    BASES["4 bits"] = lambda: quantised("4 bits")
if hasattr(peft_layers, "SVDConv2d"):  # since PEFT 0.20
    BASES["conv2d"] = lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, (1, 5), 2)).half()


@pytest.mark.filterwarnings("ignore:TorchaoLoraLinear was instantiated without")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("base", BASES)
def test_the_same_seed_gives_the_start_of_lora(door: str, base: str) -> None:
    drawn = []
    for make in (lora, lambda *given, **changes: made(door, *given, **changes)):
        model = BASES[base]()
        paths = [path for path, _ in model.named_children()]
        drawn.append((make(model, target_modules=paths), torch.rand(2)))
    (theirs, their_rest), (ours, our_rest) = drawn
    assert torch.equal(our_rest, their_rest)
    for path in paths:
        assert is_like_lora(ours, path)
        for letter in "AB":
            expected, found = factor(theirs, path, letter), factor(ours, path, letter)
            assert found.dtype is expected.dtype
            assert torch.equal(found, expected), (path, letter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("start", [True, False])
def test_the_same_seed_gives_the_adapter_of_peft(dtype: torch.dtype, start: bool) -> None:
    drawn = []
    for library in (peft, adalora_core):
        of_release = [nn.Conv2d(1, 2, 3)] if "conv2d" in BASES else []
        base = nn.Sequential(nn.Linear(7, 5), *of_release).to(dtype)
        targets = [name for name, _ in base.named_children()]
        changes = {"init_lora_weights": start, "target_modules": targets}
        torch.manual_seed(SEED)
        model = library.get_peft_model(base, library.AdaLoraConfig(**LORA | changes))
        drawn.append(({n: p for n, p in model.named_parameters() if ".lora_" in n}, torch.rand(2)))
    (theirs, their_rest), (ours, our_rest) = drawn
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(our_rest, their_rest)


@pytest.mark.usefixtures("op_backend")
def test_outputs_and_first_gradients_are_those_of_lora(door: str) -> None:
    theirs = lora(two_layer().double())
    ours = made(door, two_layer().double(), orth_reg_weight=0.0)
    batch = {**two_layer_batch(0), "x": two_layer_batch(0)["x"].double()}
    expected, found = theirs(**batch), ours.train()(**batch)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-12, rtol=0)
    for each in (expected, found):
        each.loss.backward()
    of_scales = (INIT_R + 1e-5) / INIT_R  # PEFT's LoRA divides by the rank alone
    for path in SETTINGS["target_modules"]:
        layers = [each.base_model.model.get_submodule(path) for each in (theirs, ours)]
        wanted = layers[0].lora_B["default"].weight.grad
        assert wanted.abs().max() > 1e-3
        gradient = layers[1].lora_B["default"].grad
        torch.testing.assert_close(gradient * of_scales, wanted, atol=1e-12, rtol=0)
        assert not layers[1].lora_A["default"].grad.any()
        # Once B has moved, what the adapter adds is LoRA's too.
        values = torch.randn(wanted.shape, dtype=torch.float64)
        with torch.no_grad():
            layers[0].lora_B["default"].weight.copy_(values)
            layers[1].lora_B["default"].copy_(values / INIT_R * (INIT_R + 1e-5))
    torch.testing.assert_close(
        ours.eval()(**batch).logits, theirs.eval()(**batch).logits, atol=1e-12, rtol=0
    )


@pytest.mark.usefixtures("op_backend")
@pytest.mark.parametrize("changes", [{}, {"tinit": 0}, {"orth_reg_weight": 0.0}], ids=str)
def test_a_run_ends_at_its_budget_without_a_finding(door: str, changes: dict[str, Any]) -> None:
    # A finding of the run is a warning, and warnings are errors here. The rate begins at zero, so
    # that B, and with it the gradient of E, is zero at the first two calls.
    model = made(door, TwoLayer(), **changes)
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step, 5) / 5)
    for step in range(30):
        train(model, [step], optimizer=optimizer)
        schedule.step()
    assert sum(final_ranks(model)) == sum(live_ranks(model)) == TARGET_BUDGET
    report = model.run_report()
    assert report.is_budget_reached
    assert not report.findings


@pytest.mark.usefixtures("op_backend")
def test_a_stopped_run_goes_on_bit_for_bit(door: str, tmp_path: Path) -> None:
    whole = made(door, two_layer())
    optimizer = optimizer_of(whole)
    train(whole, range(11), optimizer=optimizer)
    whole.save_pretrained(tmp_path, save_training_state=True)
    resumed = loaded(door, tmp_path)
    again = optimizer_of(resumed)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, each in ((whole, optimizer), (resumed, again)):
        train(model, range(11, 30), optimizer=each)
    for (name, expected), found in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(found, expected), name
    assert final_ranks(resumed) == final_ranks(whole)


def test_peft_and_we_read_what_the_other_writes(door: str, tmp_path: Path) -> None:
    model = made(door, two_layer())
    train(model, range(30))
    model.save_pretrained(tmp_path / "adapter")
    x = two_layer_batch(40)["x"]
    with torch.no_grad():
        expected = model.eval()(x).logits

    def outputs(library: Any, folder: Path) -> torch.Tensor:
        with torch.no_grad():
            return library.from_pretrained(two_layer(), folder)(x).logits

    readers = [peft.PeftModel, adalora_core.AdaLoraModel]
    if door == "adalora_core":
        model.export_lora(tmp_path / "lora")
        torch.testing.assert_close(outputs(peft.PeftModel, tmp_path / "lora"), expected)
    else:
        detach(model) if door == "attached" else uninstall()
        model.save_pretrained(tmp_path / "by-peft")
        for reader in readers:
            torch.testing.assert_close(outputs(reader, tmp_path / "by-peft"), expected)
    if door == "peft":
        uninstall()
    for reader in readers:
        torch.testing.assert_close(outputs(reader, tmp_path / "adapter"), expected)
        assert reader.from_pretrained(TwoLayer(), tmp_path / "adapter").peft_config[
            "default"
        ].init_lora_weights == ("lora")


@pytest.mark.parametrize("door", ["import"], indirect=True)
def test_a_second_adapter_has_a_start_of_its_own(door: str) -> None:
    model = made(door, TwoLayer(), init_lora_weights=True)
    assert not is_like_lora(model)
    before = factor(model, "first", "A").clone()
    frozen = {"inference_mode": True}
    expected = factor(lora(TwoLayer()), "first", "A")
    # The last one has the name of one that was deleted.
    for name, start in (("other", "lora"), ("third", True), ("other", True)):
        if name in model.peft_config:
            model.delete_adapter(name)
        config = peft.AdaLoraConfig(**LORA | frozen | {"init_lora_weights": start})
        torch.manual_seed(SEED)
        model.add_adapter(name, config)
        assert is_like_lora(model, name=name) == (start == "lora")
        assert torch.equal(factor(model, "first", "A", name), expected) == (start == "lora")
        assert torch.equal(factor(model, "first", "A"), before)


def test_on_the_meta_device_nothing_is_drawn(door: str) -> None:
    with torch.device("meta"):
        base = TwoLayer()
    state = torch.get_rng_state()
    options = {} if door == "adalora_core" else {"low_cpu_mem_usage": True}
    library = adalora_core if door == "adalora_core" else peft
    model = library.get_peft_model(base, library.AdaLoraConfig(**LORA), **options)
    if door == "attached":
        attach(model)
    assert {each.device.type for each in model.parameters()} == {"meta"}
    if door == "adalora_core":
        return
    assert door == "attached" or torch.equal(torch.get_rng_state(), state)
    model.to_empty(device="cpu")
    torch.manual_seed(SEED)
    for path in SETTINGS["target_modules"]:
        model.base_model.model.get_submodule(path).reset_lora_parameters("default")
        assert is_like_lora(model, path)
    theirs = lora(TwoLayer())
    for path in SETTINGS["target_modules"]:
        assert torch.equal(factor(model, path, "A"), factor(theirs, path, "A"))


class TestWhatAttachLeavesAlone:
    """Adapters that were trained or loaded, or that are not made for training."""

    def test_one_that_peft_has_trained(self) -> None:
        model = peft.get_peft_model(TwoLayer(), peft.AdaLoraConfig(**LORA))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # E stays zero
        train(model, range(1), optimizer=optimizer)
        self.is_left_alone(model)

    @pytest.mark.parametrize("changes", [{"inference_mode": True}, {"rank_pattern": {}}], ids=str)
    def test_one_by_its_configuration(self, changes: dict[str, Any]) -> None:
        model = peft.get_peft_model(TwoLayer(), peft.AdaLoraConfig(**LORA))
        if "rank_pattern" in changes:
            changes = {
                "rank_pattern": {
                    f"{path}.lora_E": [True] * INIT_R for path in SETTINGS["target_modules"]
                }
            }
        vars(model.peft_config["default"]).update(changes)
        self.is_left_alone(model)

    def test_one_with_a_singular_value(self) -> None:
        model = peft.get_peft_model(TwoLayer(), peft.AdaLoraConfig(**LORA))
        with torch.no_grad():
            model.base_model.model.second.lora_E["default"][3] = 1e-9
        self.is_left_alone(model)

    def test_one_that_is_attached_again(self) -> None:
        model = attach(peft.get_peft_model(TwoLayer(), peft.AdaLoraConfig(**LORA)))
        assert is_like_lora(model)
        self.is_left_alone(detach(model))

    def is_left_alone(self, model: Any) -> None:
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        state = torch.get_rng_state()
        attach(model)
        assert torch.equal(torch.get_rng_state(), state)
        for name, each in model.named_parameters():
            assert torch.equal(each, before[name]), name


def test_an_injected_adapter_is_drawn_by_attach() -> None:
    model = peft.inject_adapter_in_model(peft.AdaLoraConfig(**LORA), TwoLayer())
    torch.manual_seed(SEED)
    attach(model)
    theirs = lora(TwoLayer())
    assert torch.equal(model.first.lora_A["default"], factor(theirs, "first", "A"))
    assert (model.first.lora_E["default"] == 1).all()
