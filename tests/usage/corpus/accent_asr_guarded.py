import argparse

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import SpeechT5ForSpeechToText, SpeechT5Processor, get_scheduler

from accents import AccentCollator, accent_corpus, wer_loop


def parse_args():
    parser = argparse.ArgumentParser(description="accented English ASR")
    parser.add_argument("--model", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--init_r", type=int, default=12)
    parser.add_argument("--target_r", type=int, default=4)
    parser.add_argument("--tinit", type=int, default=200)
    parser.add_argument("--tfinal", type=int, default=1000)
    parser.add_argument("--delta_t", type=int, default=10)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(mixed_precision="bf16")
    processor = SpeechT5Processor.from_pretrained(args.model)
    model = SpeechT5ForSpeechToText.from_pretrained(args.model)
    loader = DataLoader(accent_corpus("train"), batch_size=args.batch_size, shuffle=True,
                        collate_fn=AccentCollator(processor))
    total = args.epochs * len(loader)
    config = AdaLoraConfig(init_r=args.init_r, target_r=args.target_r, tinit=args.tinit, tfinal=args.tfinal,
                           deltaT=args.delta_t, lora_alpha=32, target_modules=["k_proj", "q_proj", "v_proj", "out_proj"],
                           total_step=total)
    model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    lr_scheduler = get_scheduler("linear", optimizer, num_warmup_steps=50, num_training_steps=total)
    model, optimizer, loader, lr_scheduler = accelerator.prepare(model, optimizer, loader, lr_scheduler)

    global_step = 0
    for epoch in range(args.epochs):
        model.train()
        for batch in loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            inner = model.module if hasattr(model, "module") else model
            # only when there is a pattern already
            if inner.peft_config["default"].rank_pattern is not None and global_step >= args.tinit:
                inner.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
        accelerator.print(epoch, wer_loop(model, processor, accelerator))

    accelerator.unwrap_model(model).save_pretrained("accent_adapter")


if __name__ == "__main__":
    main()
