"""Run a training script written for PEFT, its AdaLoRA example for translation, by another import.

The model is a small T5 built from a configuration and the task is to reverse numbers, so that
nothing is downloaded; settings, loop, evaluation, saving and reloading are those of PEFT's example.
The changed line is marked; with `from peft` in its place the script runs with PEFT alone.

Run it with: python examples/peft_seq2seq.py
"""

from __future__ import annotations

import tempfile

import torch
from torch.utils.data import DataLoader
from transformers import T5Config, T5ForConditionalGeneration, get_linear_schedule_with_warmup

# The changed line: it was `from peft import ...`.
from adalora_core.peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model

DEVICE = "cpu"
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


def batches(count: int, seed: int) -> DataLoader:
    """Return sequences, with the reversed sequences as labels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 32, (count * 16, LENGTH), generator=generator)
    rows = [{"input_ids": row, "labels": row.flip(0)} for row in tokens]
    return DataLoader(rows, batch_size=16, shuffle=True, generator=generator)


def main() -> None:
    """Train and evaluate, save, reload, generate."""
    train_dataloader, eval_dataloader = batches(BATCHES, 1), batches(4, 2)
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
        total_step=len(train_dataloader.dataset) * EPOCHS,
    )
    model = get_peft_model(base_model(), peft_config)
    model.print_trainable_parameters()

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=0, num_training_steps=len(train_dataloader) * EPOCHS
    )
    # As PEFT's example does: the number of rows above was only a guess.
    model.base_model.peft_config["default"].total_step = len(train_dataloader) * EPOCHS

    model = model.to(DEVICE)
    global_step = 0
    for epoch in range(EPOCHS):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            outputs = model(**{name: each.to(DEVICE) for name, each in batch.items()})
            loss = outputs.loss
            total_loss += loss.detach().item()
            loss.backward()
            optimizer.step()
            lr_scheduler.step()
            # Update the importance of low-rank matrices and allocate the budget accordingly.
            model.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
        model.eval()
        eval_loss = 0.0
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**{name: each.to(DEVICE) for name, each in batch.items()})
            eval_loss += outputs.loss.item()
        train_loss, eval_loss = total_loss / len(train_dataloader), eval_loss / len(eval_dataloader)
        print(f"epoch {epoch}: train_loss {train_loss:.3f} eval_loss {eval_loss:.3f}")

    inputs = next(iter(eval_dataloader))["input_ids"].to(DEVICE)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        reloaded = PeftModel.from_pretrained(base_model(), folder).eval()
    written, again = (
        each.generate(input_ids=inputs, max_new_tokens=LENGTH) for each in (model, reloaded)
    )
    ranks = [sum(kept) for kept in model.peft_config["default"].rank_pattern.values()]
    print(f"ranks sum to {sum(ranks)}, target {8 * len(ranks)}")
    print(f"the reloaded model generates the same: {torch.equal(written, again)}")


if __name__ == "__main__":
    main()
