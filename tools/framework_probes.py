"""Probe torch and the libraries that train models; see feature_probes.py."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import (
    BRIDGED,
    Small,
    batch,
    live_triplets,
    llama,
    make,
    need,
    need_equal,
    outputs,
    train,
)
from target_probes import IDS, LANGUAGE, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# --- torch ----------------------------------------------------------------------------------------


def compiled(**options: Any) -> Callable[[str], None]:
    """Return a probe that compiles a model and trains it."""

    def run(library: str) -> None:
        model = make(library).train()
        torch.compiler.reset()
        whole = torch.compile(model, backend="aot_eager", **options)
        whole(batch(0)).loss.backward()
        model.base_model.update_and_allocate(0)
        need_equal(whole.eval()(batch(99)).logits.detach(), outputs(model))

    return run


def exported(library: str) -> None:
    """Export the model as a graph."""
    model = train(make(library)).eval()
    model.get_base_model().forward = logits_of(model.get_base_model().forward)
    graph = torch.export.export(model, (batch(99),)).module()
    need_equal(graph(batch(99)).detach(), model(batch(99)).detach())


def logits_of(forward: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function with a tensor as its value: torch.export knows no classes of others."""
    return lambda x: forward(x).logits


def checkpointed(library: str) -> None:
    """Compute activations again in the backward pass."""
    model = make(library, llama(), **LANGUAGE).train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model(input_ids=IDS, labels=IDS).loss.backward()
    model.base_model.update_and_allocate(0)


def autocast(library: str) -> None:
    """Train under autocast."""
    model = make(library).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch(0)).loss
    loss.backward()
    model.base_model.update_and_allocate(0)


def generated(library: str) -> None:
    """Generate text."""
    model = make(library, llama(), **LANGUAGE).eval()
    need(model.generate(input_ids=IDS, max_new_tokens=3).shape[1] == 11, "another length")


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Make a group of one process."""
    from torch import distributed

    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()


def data_parallel(library: str) -> None:
    """Train under DistributedDataParallel."""
    from torch.nn.parallel import DistributedDataParallel

    with one_process():
        model = make(library).train()
        DistributedDataParallel(model)(batch(0)).loss.backward()
        model.base_model.update_and_allocate(0)


def sharded(library: str) -> None:
    """Train under FSDP2 and save."""
    from torch.distributed.fsdp import fully_shard

    with one_process(), tempfile.TemporaryDirectory() as folder:
        model = make(library)
        fully_shard(model)
        train(model)
        model.save_pretrained(folder)
        need((Path(folder) / "adapter_model.safetensors").exists(), "not saved")


# --- libraries ------------------------------------------------------------------------------------


def trained_by_trainer(library: str, **options: Any) -> list[str]:
    """Train with a Trainer; return the files of its checkpoint."""
    from transformers import Trainer, TrainingArguments

    model = make(library, llama(), total_step=10, tinit=1, tfinal=2, **LANGUAGE)
    rows = [{"input_ids": IDS[0], "labels": IDS[0]}] * 8
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=2,
            save_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **options,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            Trainer(model, arguments, train_dataset=rows).train()
        return [path.name for path in Path(folder, "checkpoint-2").iterdir()]


def trainer(library: str) -> None:
    """Save checkpoints with the adapter alone."""
    names = trained_by_trainer(library)
    need("adapter_model.safetensors" in names, "no adapter is saved")
    need("model.safetensors" not in names, "the base model is saved")


def label_smoothing(library: str) -> None:
    """Smooth labels against the next token."""
    trained_by_trainer(library, label_smoothing_factor=0.1)


def trainer_allocates(library: str) -> None:
    """Allocate under Trainer with a callback."""
    from transformers import Trainer, TrainingArguments

    from adalora_core import AdaLoraCallback

    if library == "peft" and not BRIDGED:
        raise NotImplementedError("no such callback")
    model = make(library, llama(), total_step=10, tinit=1, tfinal=2, **LANGUAGE)
    rows = [{"input_ids": IDS[0], "labels": IDS[0]}] * 8
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, max_steps=10, report_to=[], use_cpu=True, disable_tqdm=True
        )
        trainer = Trainer(model, arguments, train_dataset=rows)
        AdaLoraCallback().add_to(trainer)
        trainer.train()
    need(live_triplets(model) == 2, "the number of kept triplets is not the budget")


def sft(library: str) -> None:
    """Train a model with TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = make(library, llama(), **LANGUAGE)
    rows = Dataset.from_list([{"input_ids": IDS[0].tolist()}] * 8)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = SFTConfig(
            folder,
            max_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            bf16=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            eos_token=None,
            pad_token=None,
        )
        SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer()).train()


def sft_config(library: str) -> None:
    """Let TRL's SFTTrainer make the adapter of a configuration."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_list([{"input_ids": IDS[0].tolist()}] * 8)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = SFTConfig(
            folder,
            max_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            bf16=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        SFTTrainer(
            llama(),
            arguments,
            train_dataset=rows,
            processing_class=tokenizer(),
            peft_config=config_of(library, **LANGUAGE),
        )


def tokenizer() -> Any:
    """Return a tokenizer of 16 words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"w{n}": n for n in range(16)}))
    special = dict(zip(("unk_token", "pad_token", "eos_token"), ("w0", "w0", "w1"), strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def accelerated(library: str) -> None:
    """Train what accelerate has prepared."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = make(library).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    prepared, optimizer = accelerator.prepare(model, optimizer)
    accelerator.backward(prepared(batch(0)).loss)
    optimizer.step()
    accelerator.unwrap_model(prepared).base_model.update_and_allocate(0)


@contextlib.contextmanager
def any_release() -> Iterator[None]:
    """Let transformers take the PEFT that is installed, which may be older than it asks for."""
    from unittest import mock

    with mock.patch("transformers.integrations.peft.check_peft_version"):
        yield


def added_by_transformers(library: str) -> None:
    """Add an adapter with transformers' `add_adapter`."""
    with any_release():
        llama().add_adapter(config_of(library, target_modules=["q_proj"]))


def added_by_diffusers(library: str) -> None:
    """Add an adapter with diffusers' `add_adapter`."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    model.add_adapter(config_of(library, target_modules=["to_q"]))


def added_by_sentence_transformers(library: str) -> None:
    """Add an adapter with sentence-transformers' `add_adapter`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16}
        config = BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
        BertModel(config).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        words = Transformer(folder)
    model = SentenceTransformer(modules=[words, Pooling(16)], device="cpu")
    with any_release():
        model.add_adapter(config_of(library, target_modules=["query"]))


def prepared_for_bits(library: str) -> None:
    """Prepare a model for training on quantised weights, with PEFT's function."""
    from peft import prepare_model_for_kbit_training

    model = prepare_model_for_kbit_training(llama())
    train_step = make(library, model, **LANGUAGE).train()
    train_step(input_ids=IDS, labels=IDS).loss.backward()


def cast_by_peft(library: str) -> None:
    """Keep trained parameters in float32 and the others in float16, with PEFT's function."""
    from peft import cast_mixed_precision_params

    model = make(library, Small())
    cast_mixed_precision_params(model, torch.float16)
    found = {p.dtype for p in model.parameters() if p.requires_grad}
    need(found == {torch.float32}, "another dtype")


def signature(library: str) -> None:
    """Show the base model's parameters in the signature of `forward`."""
    import inspect

    model = make(library, llama(), **LANGUAGE)
    need("input_ids" in inspect.signature(model.forward).parameters, "hidden")
