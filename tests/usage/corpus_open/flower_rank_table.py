"""Flowers-102: accuracy against the average rank at the end. Prints a table."""
import json
from pathlib import Path

import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from transformers import ViTForImageClassification

EPOCHS = 20
RANKS = [4, 8, 16]
OUT = Path("flower_results")
view = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])
flowers = DataLoader(datasets.Flowers102("data", download=True, transform=view), batch_size=16, shuffle=True)
STEPS = EPOCHS * len(flowers)


def build(final_rank):
    vit = ViTForImageClassification.from_pretrained("google/vit-base-patch16-224-in21k", num_labels=102)
    config = AdaLoraConfig(
        init_r=final_rank * 3 // 2,
        target_r=final_rank,
        lora_alpha=16,
        target_modules=["query", "value"],
        tinit=max(1, STEPS * 15 // 100),
        tfinal=max(1, STEPS * 15 // 100),
        deltaT=max(1, STEPS // 50),
        total_step=STEPS,
    )
    return get_peft_model(vit, config).cuda()


def run(final_rank):
    done = OUT / f"rank{final_rank}.json"
    if done.exists():
        return json.loads(done.read_text())
    vit = build(final_rank)
    adam = torch.optim.AdamW((w for w in vit.parameters() if w.requires_grad), lr=5e-4, weight_decay=0.01)
    step, right = 0, 0
    for epoch in range(EPOCHS):
        right = 0
        for pixels, species in flowers:
            adam.zero_grad()
            out = vit(pixel_values=pixels.cuda(), labels=species.cuda())
            out.loss.backward()
            adam.step()
            vit.base_model.update_and_allocate(step)
            step += 1
            right += (out.logits.argmax(-1).cpu() == species).sum().item()
    result = {"rank": final_rank, "train_accuracy": right / len(flowers.dataset)}
    OUT.mkdir(exist_ok=True)
    done.write_text(json.dumps(result))
    return result


for rank in RANKS:
    print(run(rank))
