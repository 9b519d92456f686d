"""Train with AdaLoRA under transformers' Trainer: accumulation, checkpoints, resuming, logs.

A small language model learns that every token follows from the one before. The run is stopped in
the middle of the budgeting phase and resumed from its checkpoint, which holds the adapter and the
allocator's state, never the base model.

Run it with: python examples/trainer_loop.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from adalora_core import AdaLoraCallback
from adalora_core.peft import AdaLoraConfig, PeftModel, get_peft_model

VOCABULARY = 64
STEPS = 60


class Sequences(torch.utils.data.Dataset):
    """Token sequences with a rule to learn."""

    def __len__(self) -> int:
        return 1024

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = [index % (VOCABULARY - 1) + 1]
        while len(tokens) < 12:
            tokens.append((tokens[-1] * 5 + 3) % (VOCABULARY - 1) + 1)
        return {"input_ids": torch.tensor(tokens), "labels": torch.tensor(tokens)}


def adapted_model() -> PeftModel:
    """Return the same random language model with the same fresh adapter at every call."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
        )
    )
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        init_r=6,
        target_r=3,
        lora_alpha=12,
        tinit=10,
        tfinal=20,
        total_step="auto",  # the callback fills in what Trainer computes
        orth_reg_weight=0.1,
    )
    return get_peft_model(base, config)


def trainer_for(model: PeftModel, folder: Path) -> Trainer:
    """Return a Trainer that allocates ranks."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        logging_steps=20,
        save_steps=30,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=Sequences())
    AdaLoraCallback().add_to(trainer)
    return trainer


def main() -> None:
    """Train, resume the same run from its middle, compare."""
    with tempfile.TemporaryDirectory() as folder:
        whole = adapted_model()
        trainer_for(whole, Path(folder)).train()
        resumed = adapted_model()
        checkpoint = Path(folder) / "checkpoint-30"
        trainer_for(resumed, Path(folder) / "again").train(resume_from_checkpoint=str(checkpoint))
        saved = sorted(path.name for path in checkpoint.glob("ada*"))
    print("checkpoint:", ", ".join(saved))
    ranks = [sum(kept) for kept in resumed.peft_config["default"].rank_pattern.values()]
    print(f"ranks sum to {sum(ranks)} of {6 * len(ranks)}, target {3 * len(ranks)}")
    pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
    difference = max((one - other).abs().max().item() for one, other in pairs)
    print(f"largest difference between the resumed run and the whole one {difference}")


if __name__ == "__main__":
    main()
