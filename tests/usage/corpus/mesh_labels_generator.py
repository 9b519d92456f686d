from typing import Iterator

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from mesh import mesh_dataloader, micro_f1


def forever(loader) -> Iterator[dict]:
    epoch = 0
    while True:
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def updates(accelerator, model, optimizer, batches, n) -> Iterator[tuple[int, float]]:
    """Yields (step, loss) after every optimizer step."""
    tuner = accelerator.unwrap_model(model).base_model
    step = 0
    while step < n:
        with accelerator.accumulate(model):
            loss = model(**next(batches)).loss
            accelerator.backward(loss)
            optimizer.step()
            if accelerator.sync_gradients:
                tuner.update_and_allocate(step)
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            step += 1
            yield step, loss.item()


def main(n: int = 4000):
    accelerator = Accelerator(gradient_accumulation_steps=8)
    base = AutoModelForSequenceClassification.from_pretrained(
        "allenai/scibert_scivocab_uncased", num_labels=120, problem_type="multi_label_classification"
    )
    config = AdaLoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query", "key", "value"],
        init_r=12,
        target_r=6,
        lora_alpha=24,
        tinit=400,
        tfinal=800,
        deltaT=20,
        total_step=4000,
    )
    model = get_peft_model(base, config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=7e-4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, mesh_dataloader("train", batch_size=4))
    model.train()
    for step, loss in updates(accelerator, model, optimizer, forever(loader), n):
        if step % 100 == 0:
            accelerator.print(f"{step:5d} {loss:.4f}")
    accelerator.print("F1", micro_f1(model, mesh_dataloader("dev", batch_size=32)))


if __name__ == "__main__":
    main()
