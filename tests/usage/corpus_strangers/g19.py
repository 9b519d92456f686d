import logging
import os

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import ViTForImageClassification, ViTImageProcessor, get_cosine_schedule_with_warmup

logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
logger = logging.getLogger(__name__)

CKPT = "google/vit-base-patch16-224-in21k"
EPOCHS, BS, LR = 5, 64, 2e-3

proc = ViTImageProcessor.from_pretrained(CKPT)
food = load_dataset("food101")
names = food["train"].features["label"].names


def collate(rows):
    px = proc([r["image"].convert("RGB") for r in rows], return_tensors="pt")["pixel_values"]
    return {"pixel_values": px, "labels": torch.tensor([r["label"] for r in rows])}


train = DataLoader(food["train"], BS, shuffle=True, collate_fn=collate, num_workers=8)
valid = DataLoader(food["validation"], BS, collate_fn=collate, num_workers=8)
total = EPOCHS * len(train)

model = ViTForImageClassification.from_pretrained(CKPT, num_labels=len(names))
config = AdaLoraConfig(
    task_type="SEQ_CLS",
    init_r=16,
    target_r=8,
    lora_alpha=16,
    tinit=500,
    tfinal=1500,
    deltaT=20,
    total_step=total,
    target_modules=["query", "value"],
    modules_to_save=["classifier"],
)


class Wrapped(torch.nn.Module):
    """keep the PEFT model's interface to pixel_values only"""

    def __init__(self, net):
        super().__init__()
        self.net = get_peft_model(net, config)

    def forward(self, pixel_values, labels=None):
        return self.net.base_model(pixel_values=pixel_values, labels=labels)


model = Wrapped(model).cuda()
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=0.01)
sched = get_cosine_schedule_with_warmup(opt, 200, total)


def validate():
    model.eval()
    ok = 0
    with torch.no_grad():
        for b in valid:
            ok += (model(b["pixel_values"].cuda()).logits.argmax(-1).cpu() == b["labels"]).sum().item()
    model.train()
    return ok / len(food["validation"])


step = 0
model.train()
for epoch in range(EPOCHS):
    for b in train:
        loss = model(b["pixel_values"].cuda(), b["labels"].cuda()).loss
        loss.backward()
        opt.step()
        sched.step()
        step += 1
        if step % config.deltaT == 0:
            model.net.base_model.update_and_allocate(step)
        opt.zero_grad()
        if step % 50 == 0:
            logger.info("step %d/%d loss %.4f", step, total, loss.item())
    logger.info("epoch %d acc %.4f", epoch, validate())
    model.net.save_pretrained(os.path.join("food101", f"epoch-{epoch}"))
