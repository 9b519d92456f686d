"""Transfer RoBERTa to the Darcy flow equation (operator learning on a grid)."""
import argparse

import torch
from peft import AdaLoraConfig, get_peft_model

from pde_tasks import GridEmbedder, darcy_loaders, relative_l2


def train_one_epoch(args, model, optimizer, loader, loss_fn):
    model.train()
    total = 0.0
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        x, y = x.to(args.device), y.to(args.device)
        out = model(x)
        if isinstance(out, dict):
            out = out["out"]
        l = loss_fn(out, y)
        l.backward()
        if args.clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=args.clip)
        if (i + 1) % args.accum == 0:
            optimizer.step()
            if args.mode == "ada":
                model.base_model.update_and_allocate(i)
            optimizer.zero_grad()
        total += l.item()
    return total / len(loader)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["full", "ada"], default="ada")
    parser.add_argument("--accum", type=int, default=8)
    parser.add_argument("--clip", type=float, default=-1)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()

    train_loader, test_loader = darcy_loaders(batch_size=4)
    model = GridEmbedder.from_roberta().to(args.device)
    if args.mode == "ada":
        steps = len(train_loader) // args.accum * args.epochs
        model = get_peft_model(model, AdaLoraConfig(
            init_r=12, target_r=8, lora_alpha=16, target_modules=["query", "value"],
            tinit=steps // 20, tfinal=steps // 4, deltaT=10, total_step=steps))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(args.epochs):
        print(epoch, train_one_epoch(args, model, optimizer, train_loader, relative_l2))


if __name__ == "__main__":
    main()
