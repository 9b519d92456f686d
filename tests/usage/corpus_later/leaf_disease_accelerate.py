import argparse
import math

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForImageClassification

from leaves import LeafFolder, collate


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--root", required=True)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--accum", type=int, default=4)
    p.add_argument("--lr", type=float, default=1e-3)
    return p.parse_args()


def run(args):
    accelerator = Accelerator(gradient_accumulation_steps=args.accum)
    loader = DataLoader(LeafFolder(args.root), batch_size=16, shuffle=True, collate_fn=collate)
    steps_per_epoch = math.ceil(len(loader) / args.accum)

    net = AutoModelForImageClassification.from_pretrained(
        "google/vit-base-patch16-224-in21k", num_labels=7
    )
    net = get_peft_model(
        net,
        AdaLoraConfig(
            init_r=12,
            target_r=6,
            tinit=50,
            tfinal=100,
            deltaT=5,
            lora_alpha=12,
            target_modules=["query", "value"],
            modules_to_save=["classifier"],
            total_step=steps_per_epoch * args.epochs,
        ),
    )
    optim = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=args.lr)
    net, optim, loader = accelerator.prepare(net, optim, loader)

    done = 0
    for epoch in range(args.epochs):
        net.train()
        for batch in loader:
            with accelerator.accumulate(net):
                out = net(pixel_values=batch["pixels"], labels=batch["labels"])
                accelerator.backward(out.loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), 1.0)
                optim.step()
                if accelerator.sync_gradients:
                    accelerator.unwrap_model(net).base_model.update_and_allocate(done)
                    done += 1
                optim.zero_grad()
        accelerator.print(f"epoch {epoch}: {done} steps, loss {out.loss.item():.3f}")


if __name__ == "__main__":
    run(parse())
