"""Find ranks by a short pilot under transformers' Trainer, then train PEFT's LoRA with them.

A small language model learns that every token follows from the one before. The pilot leaves the
model as it was, so the LoRA starts from the same base.

Run it with: python examples/find_ranks.py
"""

from __future__ import annotations

import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from adalora_core import AdaLoraConfig, find_ranks

VOCABULARY = 64
PARAMETERS = 4_000


class Sequences(torch.utils.data.Dataset):
    """Token sequences with a rule to learn."""

    def __len__(self) -> int:
        return 1024

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = [index % (VOCABULARY - 1) + 1]
        while len(tokens) < 12:
            tokens.append((tokens[-1] * 5 + 3) % (VOCABULARY - 1) + 1)
        return {"input_ids": torch.tensor(tokens), "labels": torch.tensor(tokens)}


def language_model() -> LlamaForCausalLM:
    """Return a small random language model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return LlamaForCausalLM(config)


def main() -> None:
    """Run the pilot, print what it found, train with it."""
    model = language_model()
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        init_r=9,
        target_r=3,
        lora_alpha=18,
        total_step="auto",  # the pilot has a schedule of its own
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=60,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        pilot = Trainer(model, arguments, train_dataset=Sequences())
        found = find_ranks(model, config, pilot, steps=60, budget=PARAMETERS, unit="parameters")
        lora = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **found.lora_settings()))
        result = Trainer(lora, arguments, train_dataset=Sequences()).train()
    print(f"ranks from {min(found.ranks.values())} to {max(found.ranks.values())}")
    print(f"correlation of the ranks that the halves of the pilot find: {found.agreement:.2f}")
    parameters = lora.get_nb_trainable_parameters()[0]
    print(f"LoRA with {parameters} of {PARAMETERS} parameters: loss {result.training_loss:.2f}")


if __name__ == "__main__":
    main()
