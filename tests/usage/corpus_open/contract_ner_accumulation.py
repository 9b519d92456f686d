import math
from argparse import ArgumentParser

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForTokenClassification, get_linear_schedule_with_warmup

from contracts import TAGS, entity_f1, make_loaders


def main():
    parser = ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--accum", type=int, default=4)
    parser.add_argument("--lr", type=float, default=8e-4)
    args = parser.parse_args()

    accelerator = Accelerator()
    loader, dev = make_loaders(batch_size=8)
    per_epoch = math.ceil(len(loader) / args.accum)
    total = per_epoch * args.epochs

    base = AutoModelForTokenClassification.from_pretrained("nlpaueb/legal-bert-base-uncased", num_labels=len(TAGS))
    model = get_peft_model(
        base,
        AdaLoraConfig(
            task_type=TaskType.TOKEN_CLS,
            target_modules=["query", "key", "value", "dense"],
            init_r=8,
            target_r=4,
            lora_alpha=16,
            tinit=total // 10,
            tfinal=total // 5,
            deltaT=10,
            total_step=total,
        ),
    )
    # made after the wrapping, so that it holds the factors
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
    schedule = get_linear_schedule_with_warmup(optimizer, total // 20, total)
    model, optimizer, loader, dev = accelerator.prepare(model, optimizer, loader, dev)

    opt_step = 0
    for epoch in range(args.epochs):
        model.train()
        for i, batch in enumerate(loader):
            loss = model(**batch).loss / args.accum
            accelerator.backward(loss)
            if (i + 1) % args.accum == 0 or i + 1 == len(loader):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                accelerator.unwrap_model(model).base_model.update_and_allocate(opt_step)
                schedule.step()
                optimizer.zero_grad()
                opt_step += 1
        accelerator.print(epoch, opt_step, entity_f1(model, dev))


if __name__ == "__main__":
    main()
