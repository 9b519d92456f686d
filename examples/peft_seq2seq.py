"""A training script written for PEFT, its own AdaLoRA example for translation, with one line more.

The model is a small T5 built from a configuration and the data are numbers to be turned around, so
that nothing is downloaded; the loop is the one of PEFT's example.

Run it with: python examples/peft_seq2seq.py
"""

from __future__ import annotations

import tempfile

import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import T5Config, T5ForConditionalGeneration, get_linear_schedule_with_warmup

from adalora_core.integrations.peft import attach

LENGTH = 5
EPOCHS = 4
BATCHES = 20


def base_model() -> T5ForConditionalGeneration:
    """Return the same small random model at every call."""
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=32,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
        )
    )


def batches() -> DataLoader:
    """Return sequences and the same ones turned around."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(2, 32, (BATCHES * 16, LENGTH), generator=generator)
    rows = [{"input_ids": row, "labels": row.flip(0)} for row in tokens]
    return DataLoader(rows, batch_size=16, shuffle=True, generator=generator)


def main() -> None:
    """Train, save, reload."""
    train_dataloader = batches()
    peft_config = AdaLoraConfig(
        init_r=12,
        target_r=8,
        beta1=0.85,
        beta2=0.85,
        tinit=20,
        tfinal=20,
        deltaT=1,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["q", "v"],
        task_type=TaskType.SEQ_2_SEQ_LM,
        inference_mode=False,
        total_step=len(train_dataloader) * EPOCHS,
    )
    model = get_peft_model(base_model(), peft_config)
    attach(model)  # the one added line
    model.print_trainable_parameters()

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=0, num_training_steps=len(train_dataloader) * EPOCHS
    )
    global_step = 0
    for epoch in range(EPOCHS):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            outputs = model(**batch)
            loss = outputs.loss
            total_loss += loss.detach().item()
            loss.backward()
            optimizer.step()
            lr_scheduler.step()
            # Update the importance of low-rank matrices and allocate the budget accordingly.
            model.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
        print(f"epoch {epoch}: train_loss {total_loss / len(train_dataloader):.3f}")

    model.eval()
    batch = next(iter(train_dataloader))
    # Without labels, which PEFT's models cannot take in inference mode.
    inputs = {"input_ids": batch["input_ids"], "decoder_input_ids": batch["labels"]}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.save_pretrained(folder)
        reloaded = PeftModel.from_pretrained(base_model(), folder)
        difference = (model(**inputs).logits - reloaded(**inputs).logits).abs().max()
    ranks = [sum(kept) for kept in model.peft_config["default"].rank_pattern.values()]
    print(f"ranks sum to {sum(ranks)}, target {8 * len(ranks)}")
    print(f"PEFT alone reloads it: largest difference {difference:.0e}")


if __name__ == "__main__":
    main()
