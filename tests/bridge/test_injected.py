"""`attach` on modules that PEFT, transformers, diffusers or sentence-transformers adapted.

transformers' `add_adapter` asks for a minimal PEFT: 5.24 for 0.22, which is not published, and
5.18 to 5.23 for 0.20. Where it refuses, its tests are skipped here and run by
`test_peft_releases.py`, in an environment with a pair of releases that agree.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import SETTINGS, TARGET_BUDGET, end_step, optimizer_of, train
from torch import nn
from toy_models import TwoLayer, outputs, tiny_llama, token_batch, two_layer_batch
from trainer_runs import trainer_for
from transformers import PreTrainedModel

from adalora_core import allocate_on_step
from adalora_core.bridge import attach, detach, install, is_attached, uninstall
from adalora_core.trainers.distributed import AdapterState

TOTAL = 30


def config(**changes: Any) -> peft.AdaLoraConfig:
    return peft.AdaLoraConfig(**SETTINGS | changes)


def accepted(add: Any, *arguments: Any) -> None:
    """Call `add_adapter` of a library, unless it refuses the installed PEFT."""
    try:
        add(*arguments)
    except (ValueError, ImportError) as error:
        if "version" not in str(error) or "PEFT" not in str(error):
            raise
        pytest.skip(f"would have shown an adapter that the library adds: {error}")


def injected(**changes: Any) -> nn.Module:
    torch.manual_seed(7)
    return peft.inject_adapter_in_model(config(**changes), TwoLayer())


def llama(**changes: Any) -> Any:
    model = tiny_llama()
    torch.manual_seed(7)
    accepted(model.add_adapter, config(**{"target_modules": ["q_proj", "v_proj"], **changes}))
    return model


def unet() -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    accepted(model.add_adapter, config(target_modules=["to_q", "to_v"], init_r=4, target_r=2))
    return model


def kept(model: Any) -> int:
    return sum(sum(each) for each in model.peft_config["default"].rank_pattern.values())


class TestInjectedByPeft:
    def test_run_is_that_of_a_model_of_peft(self) -> None:
        torch.manual_seed(7)
        reference = attach(peft.get_peft_model(TwoLayer(), config()))
        model = attach(injected())
        assert [each.tolist() for each in model.parameters()] == [
            each.tolist() for each in reference.parameters()
        ]
        optimizers = [optimizer_of(each) for each in (reference, model)]
        for step in range(TOTAL):
            for each, optimizer in zip((reference, model), optimizers, strict=True):
                train(each, [step], optimizer=optimizer)
            assert model.peft_config["default"].rank_pattern == (
                reference.peft_config["default"].rank_pattern
            )
        assert kept(model) == TARGET_BUDGET
        torch.testing.assert_close(outputs(model), outputs(reference), atol=0, rtol=0)

    def test_it_stays_an_instance_of_its_class_with_the_same_names(self) -> None:
        model, plain = attach(injected()), injected()
        assert isinstance(model, TwoLayer)
        assert type(model).__name__ == "TwoLayer"
        assert list(model.state_dict()) == list(plain.state_dict())
        assert is_attached(model)
        assert attach(model) is model

    def test_hook_on_the_optimizer_allocates(self) -> None:
        model = attach(injected())
        optimizer = optimizer_of(model)
        allocate_on_step(optimizer, model)
        for step in range(TOTAL):
            model.train()(**two_layer_batch(step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.finalize()
        assert kept(model) == TARGET_BUDGET
        assert model.run_report().target == TARGET_BUDGET

    def test_state_dictionary_goes_into_a_fresh_module(self) -> None:
        model = attach(injected())
        train(model, range(TOTAL))
        pattern = model.peft_config["default"].rank_pattern
        found = peft.get_peft_model_state_dict(model)
        assert model.peft_config["default"].rank_pattern == pattern
        ranks = [len(each) for name, each in found.items() if name.endswith("lora_E")]
        assert sum(ranks) == TARGET_BUDGET
        fresh = attach(injected(rank_pattern=pattern))
        peft.set_peft_model_state_dict(fresh, found)
        torch.testing.assert_close(outputs(fresh), outputs(model))

    def test_state_resumes_at_any_step(self) -> None:
        whole = attach(injected())
        train(whole, range(15), optimizer=torch.optim.SGD(whole.parameters(), lr=0.05))
        states = AdapterState(whole).state_dict()
        train(whole, range(15, TOTAL), optimizer=torch.optim.SGD(whole.parameters(), lr=0.05))
        resumed = attach(injected())
        AdapterState(resumed).load_state_dict(states)
        train(resumed, range(15, TOTAL), optimizer=torch.optim.SGD(resumed.parameters(), lr=0.05))
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)

    def test_compact_and_detach(self) -> None:
        model = attach(injected())
        optimizer = optimizer_of(model)
        train(model, range(26), optimizer=optimizer)
        expected = outputs(model)
        with torch.no_grad():
            model.compact(optimizer)
        assert detach(model) is model
        torch.testing.assert_close(outputs(model), expected)
        assert {type(each) for each in model.modules()} == {
            type(each) for each in injected().modules()
        }
        assert not any("adalora" in key for each in model.modules() for key in vars(each))
        assert not model._forward_hooks
        assert not model._forward_pre_hooks

    def test_module_around_it_is_served_too(self) -> None:
        wrapped = nn.ModuleDict({"inner": injected()})
        model = attach(wrapped)
        assert model is wrapped
        inner: Any = model["inner"]
        optimizer = optimizer_of(model)
        for step in range(TOTAL):
            inner.train()(**two_layer_batch(step)).loss.backward()
            end_step(model, optimizer, step)
        assert kept(inner) == TARGET_BUDGET
        detach(model)
        assert type(model) is nn.ModuleDict

    def test_module_around_a_model_of_peft_is_served_too(self) -> None:
        inner = peft.get_peft_model(TwoLayer(), config())
        model = attach(nn.Sequential(inner))
        assert is_attached(inner)
        handle = allocate_on_step(optimizer_of(model), model)
        handle.remove()
        detach(model)
        assert not is_attached(inner)

    def test_two_adapted_parts_are_refused(self) -> None:
        with pytest.raises(TypeError, match="expected a peft"):
            attach(nn.ModuleList([injected(), injected()]))

    def test_module_made_while_the_bridge_is_installed(self) -> None:
        install()
        try:
            module = injected()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT warns of a second adapter
                peft.inject_adapter_in_model(config(inference_mode=True), module, "other")
        finally:
            uninstall()
        for layer in (module.first, module.second):
            layer.set_adapter("default")
        model = attach(module)
        train(model, range(TOTAL))
        assert kept(model) == TARGET_BUDGET


class TestTransformers:
    def test_trainer_trains_and_saves_an_adapter(self, tmp_path: Path) -> None:
        model = attach(llama())
        assert isinstance(model, PreTrainedModel)
        saving = {"save_strategy": "steps", "save_steps": 10}
        trainer_for(model, tmp_path / "run", max_steps=TOTAL, **saving).train()
        budget = 8 * 4
        assert kept(model) == budget
        folder = tmp_path / "run" / f"checkpoint-{TOTAL}"
        assert (folder / "adapter_model.safetensors").is_file()
        assert not (folder / "model.safetensors").exists()
        loaded = peft.PeftModel.from_pretrained(tiny_llama(), folder).eval()
        batch = token_batch(99)
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, model.eval()(**batch).logits)

    @pytest.mark.parametrize("until", [3, 13])
    def test_save_in_the_middle_holds_what_the_model_computes(
        self, until: int, tmp_path: Path
    ) -> None:
        model = attach(llama(deltaT=4))
        self.train(model, range(until))
        pattern = model.peft_config["default"].rank_pattern
        model.save_pretrained(tmp_path, save_training_state=True)
        assert model.peft_config["default"].rank_pattern == pattern
        loaded = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path).eval()
        batch = token_batch(99)
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, model.eval()(**batch).logits)

    def test_saved_run_continues(self, tmp_path: Path) -> None:
        whole = attach(llama())
        self.train(whole, range(15))
        whole.save_pretrained(tmp_path, save_training_state=True)
        self.train(whole, range(15, TOTAL))
        resumed = attach(llama())
        resumed.load_training_state(tmp_path)
        self.train(resumed, range(15, TOTAL))
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)

    def test_deleted_adapter_leaves_the_module_usable(self) -> None:
        unattached = llama()
        try:
            unattached.delete_adapter("default")
        except AttributeError as error:  # PEFT 0.18 deletes no adapter, attached or not.
            pytest.skip(f"would have shown a deleted adapter: PEFT's own deletion fails: {error}")
        model = attach(llama())
        self.train(model, range(2))
        model.delete_adapter("default")
        assert not hasattr(model, "peft_config")
        assert model.eval()(**token_batch(0)).loss.isfinite()

    def train(self, model: Any, steps: range) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in steps:
            model.train()(**token_batch(step)).loss.backward()
            end_step(model, optimizer, step)


@pytest.mark.slow
class TestDiffusers:
    def test_unet_trains_and_its_file_loads(self, tmp_path: Path) -> None:
        model = attach(unet())
        optimizer = optimizer_of(model)
        generator = torch.Generator().manual_seed(3)
        noise = torch.randn(2, 4, 8, 8, generator=generator)
        prompt = torch.randn(2, 3, 8, generator=generator)
        for step in range(TOTAL):
            found = model.train()(noise, 5, prompt).sample
            loss = (found - noise).square().mean() + model.orthogonality_penalty()
            loss.backward()
            end_step(model, optimizer, step)
        layers = len(model.peft_config["default"].rank_pattern)
        assert kept(model) == 2 * layers
        state = peft.get_peft_model_state_dict(model)
        assert sum(len(each) for name, each in state.items() if "lora_E" in name) == 2 * layers
        model.save_lora_adapter(tmp_path)
        assert list(tmp_path.iterdir())


class TestSentenceTransformers:
    def test_its_encoder_trains(self, tmp_path: Path) -> None:
        model = encoder(tmp_path)
        accepted(model.add_adapter, config(target_modules=["query", "value"]))
        attach(model)
        optimizer = optimizer_of(model)
        allocate_on_step(optimizer, model)
        features = {"input_ids": torch.tensor([[2, 5, 6, 3]]), "attention_mask": torch.ones(1, 4)}
        for _ in range(TOTAL):
            found = model.train()(dict(features))["sentence_embedding"]
            (found.square().sum() + model.orthogonality_penalty()).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.finalize()
        inner: Any = model[0].model
        assert kept(inner) == 8 * len(inner.peft_config["default"].rank_pattern)
        model.save_pretrained(str(tmp_path / "saved"))
        assert list((tmp_path / "saved").rglob("adapter_model.safetensors"))


def encoder(folder: Path) -> Any:
    """Return a SentenceTransformer of a few layers that is not downloaded."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]
    named = {"pad_token": words[0], "unk_token": words[1]}
    known = {word: number for number, word in enumerate(words)}
    vocabulary = Tokenizer(WordLevel(known, unk_token=words[1]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, **named)
    tokenizer.save_pretrained(folder / "bert")
    settings = BertConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    BertModel(settings).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    return SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu")
