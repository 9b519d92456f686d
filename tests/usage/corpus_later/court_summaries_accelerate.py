import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSeq2SeqLM, get_cosine_schedule_with_warmup

from courts import loaders


def training_function(args):
    accelerator = Accelerator(gradient_accumulation_steps=8, mixed_precision="bf16", log_with="tensorboard")
    set_seed(args.seed)
    train_loader, dev_loader = loaders(args.batch_size)

    model = AutoModelForSeq2SeqLM.from_pretrained("google/long-t5-tglobal-base")
    peft_config = AdaLoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        init_r=16,
        target_r=8,
        lora_alpha=16,
        tinit=args.total // 10,
        tfinal=args.total // 5,
        deltaT=5,
        total_step=args.total,
        target_modules=["q", "v"],
    )
    model = get_peft_model(model, peft_config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    lr_scheduler = get_cosine_schedule_with_warmup(optimizer, 50, args.total)
    model, optimizer, train_loader, dev_loader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_loader, dev_loader, lr_scheduler
    )

    global_step = 0
    for epoch in range(args.epochs):
        model.train()
        for batch in train_loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                optimizer.step()
                lr_scheduler.step()
                accelerator.unwrap_model(model).base_model.update_and_allocate(global_step)
                optimizer.zero_grad()
            global_step += 1
            accelerator.log({"loss": loss.item()}, step=global_step)

        model.eval()
        with torch.no_grad():
            dev = torch.stack([model(**b).loss for b in dev_loader]).mean()
        accelerator.print(f"epoch {epoch}: dev loss {dev:.3f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch_size", type=int, default=2)
    p.add_argument("--total", type=int, required=True, help="optimizer steps of the whole run")
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--seed", type=int, default=0)
    training_function(p.parse_args())
