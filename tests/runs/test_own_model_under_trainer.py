"""Trainer, TRL and accelerate take an `AdaLoraModel` for PEFT's, without `AdaLoraCallback`.

The callback of these runs is the one of PEFT's own examples: it calls `update_and_allocate`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
import yaml
from adalora_runs import live_ranks, make
from datasets import Dataset
from toy_models import VOCABULARY, tiny_llama, token_batch
from trainer_runs import LLAMA, STEPS, TARGET_BUDGET, Sequences, llama
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from word_tokenizer import words

from adalora_core import AdaLoraModel, RunWarning

if TYPE_CHECKING:
    from pathlib import Path

BOTH = ["adalora_core", "peft"]

# Libraries that use names which transformers has deprecated, or slow ways.
MARKS = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Creating a tensor from a list:UserWarning"),
    # These trainers compute the loss from the outputs, as under PEFT without the penalty.
    pytest.mark.filterwarnings("ignore:ADA814:adalora_core.floor.errors.RunWarning"),
]


def with_others(test: Any) -> Any:
    """Mark a slow test in which other libraries warn."""
    for mark in MARKS:
        test = mark(test)
    return test


class Allocation(TrainerCallback):
    """As in PEFT's documentation of `update_and_allocate`."""

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any
    ) -> None:
        del args, control
        model.base_model.update_and_allocate(state.global_step)


def arguments(folder: Path, cls: type = TrainingArguments, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 4,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return cls(**{**settings, **changes})


def trainer_for(model: Any, folder: Path, **changes: Any) -> Trainer:
    return Trainer(
        model,
        arguments(folder, **changes),
        train_dataset=Sequences(),
        eval_dataset=Sequences(8),
        callbacks=[Allocation()],
    )


def tied(library: str) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    return make(library, LlamaForCausalLM(config), **LLAMA)


def losses(trainer: Trainer) -> list[float]:
    return [each["loss"] for each in trainer.state.log_history if "loss" in each]


def files(folder: Path) -> set[str]:
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if not name.startswith("adalora_state.")}


def test_checkpoints_and_the_saved_model_are_those_of_peft(tmp_path: Path) -> None:
    for library in BOTH:
        trainer = trainer_for(
            tied(library), tmp_path / library, save_strategy="steps", save_steps=12
        )
        trainer.train()
        trainer.save_model(str(tmp_path / library / "final"))
    for name in ("checkpoint-12", "final"):
        found, expected = (tmp_path / library / name for library in BOTH)
        assert files(found) == files(expected)
    base = tied("peft").unload()
    vars(base).pop("peft_config", None)  # left there by PEFT before 0.21
    peft.PeftModel.from_pretrained(base, str(tmp_path / "adalora_core" / "final"))


def test_checkpoints_of_a_right_run_are_no_findings(tmp_path: Path) -> None:
    trainer = trainer_for(llama("adalora_core"), tmp_path, save_strategy="steps", save_steps=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RunWarning)
        trainer.train()


def test_it_resumes_and_loads_the_best_checkpoint(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 8}
    whole = trainer_for(llama("adalora_core"), tmp_path, **saving)
    whole.train()
    resumed = trainer_for(llama("adalora_core"), tmp_path / "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert losses(resumed)[-4:] == losses(whole)[-4:]
    best = {"eval_strategy": "steps", "eval_steps": 8, "load_best_model_at_end": True}
    trainer = trainer_for(llama("adalora_core"), tmp_path / "best", **saving, **best)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric)


@pytest.mark.parametrize("library", BOTH)
def test_smoothed_labels_are_the_next_tokens(library: str, tmp_path: Path) -> None:
    trainer = trainer_for(llama(library), tmp_path, label_smoothing_factor=0.1)
    batch = token_batch(3)
    model = trainer.model.train()
    found = trainer.compute_loss(model, dict(batch))
    logits = model.get_base_model()(input_ids=batch["input_ids"]).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), label_smoothing=0.1
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("library", BOTH)
def test_the_card_that_trainer_writes_is_of_an_adapter(library: str, tmp_path: Path) -> None:
    trainer = trainer_for(llama(library), tmp_path)
    trainer.save_model()
    trainer.create_model_card(tags=["mine"])
    metadata = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert metadata["library_name"] == "peft"
    assert "transformers" in metadata["tags"]
    # PEFT drops the tags that Trainer has written.
    assert ("mine" in metadata["tags"]) == (library == "adalora_core")


@with_others
def test_seq2seq_trainer_smooths_and_generates(tmp_path: Path) -> None:
    found = {}
    for library in BOTH:
        torch.manual_seed(0)
        base = T5ForConditionalGeneration(
            T5Config(
                vocab_size=VOCABULARY,
                d_model=32,
                d_kv=8,
                d_ff=64,
                num_layers=1,
                num_heads=4,
                decoder_start_token_id=0,
                pad_token_id=0,
                eos_token_id=1,
            )
        )
        changes = {"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "v"], "target_r": 5}
        model = make(library, base, **{**LLAMA, **changes})
        trainer = Seq2SeqTrainer(
            model,
            arguments(
                tmp_path,
                Seq2SeqTrainingArguments,
                label_smoothing_factor=0.1,
                predict_with_generate=True,
                generation_max_length=6,
            ),
            data_collator=DataCollatorForSeq2Seq(words(), model=model),
            train_dataset=Sequences(),
            callbacks=[Allocation()],
        )
        trainer.train()
        predicted = trainer.predict(Sequences(4)).predictions.shape
        found[library] = predicted, sum(live_ranks(model)), losses(trainer)
    (*ours, our_losses), (*theirs, their_losses) = found.values()
    assert ours == theirs
    assert our_losses == pytest.approx(their_losses, abs=0.2)


def sentences(count: int = 96) -> Dataset:
    words = VOCABULARY - 4
    rows = [" ".join(f"w{(row + 3 * at) % words}" for at in range(8)) for row in range(count)]
    return Dataset.from_dict({"text": rows})


def quantised(tmp_path: Path, bits: int) -> Any:
    pytest.importorskip("bitsandbytes")
    tiny_llama().save_pretrained(tmp_path / "base")
    settings: dict[str, Any] = (
        {"load_in_8bit": True}
        if bits == 8
        else {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32}
    )
    return AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=BitsAndBytesConfig(**settings), device_map="cpu"
    )


@with_others
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_base_trains_under_trainer(bits: int, tmp_path: Path) -> None:
    base = peft.prepare_model_for_kbit_training(
        quantised(tmp_path, bits), gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    model = make("adalora_core", base, **LLAMA)
    trainer = trainer_for(model, tmp_path, save_strategy="steps", save_steps=STEPS)
    trainer.train()
    assert sum(live_ranks(model)) == TARGET_BUDGET
    assert "model.safetensors" not in files(tmp_path / f"checkpoint-{STEPS}")
    card = (tmp_path / f"checkpoint-{STEPS}" / "README.md").read_text()
    assert f"- load_in_{bits}bit: True" in card.replace("_load_in", "load_in")


@with_others
@pytest.mark.parametrize("bits", [None, 4])
def test_sft_trainer_trains_as_with_peft(bits: int | None, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    found = {}
    for library in BOTH:
        base = tiny_llama() if bits is None else quantised(tmp_path, bits)
        model = make(library, base, **LLAMA)
        settings = arguments(
            tmp_path / library, trl.SFTConfig, max_length=16, save_strategy="steps", save_steps=12
        )
        trainer = trl.SFTTrainer(
            model=model,
            args=settings,
            train_dataset=sentences(),
            processing_class=words(),
            callbacks=[Allocation()],
        )
        trainer.train()
        found[library] = losses(trainer)
        assert sum(live_ranks(model)) == TARGET_BUDGET
    assert found["adalora_core"] == pytest.approx(found["peft"], abs=0.05)
    checkpoints = [tmp_path / library / "checkpoint-12" for library in BOTH]
    assert files(checkpoints[0]) == files(checkpoints[1])
    AdaLoraModel.from_pretrained(tiny_llama(), checkpoints[0], is_trainable=True)
