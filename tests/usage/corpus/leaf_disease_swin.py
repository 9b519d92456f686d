"""Swin transformer for leaf diseases, effective batch of 64 on one small card."""
import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from transformers import AutoImageProcessor, SwinForImageClassification

ACCUM = 8
EPOCHS = 15
name = "microsoft/swin-tiny-patch4-window7-224"
processor = AutoImageProcessor.from_pretrained(name)


def to_pixels(image):
    return processor(image, return_tensors="pt")["pixel_values"][0]


leaves = DataLoader(ImageFolder("leaves/train", to_pixels), batch_size=8, shuffle=True, drop_last=True)
updates = (len(leaves) // ACCUM) * EPOCHS
swin = SwinForImageClassification.from_pretrained(name, num_labels=38, ignore_mismatched_sizes=True)
swin = get_peft_model(
    swin,
    AdaLoraConfig(
        init_r=12,
        target_r=4,
        lora_alpha=16,
        target_modules=["query", "value"],
        modules_to_save=["classifier"],
        tinit=updates // 10,
        tfinal=updates // 3,
        deltaT=5,
        total_step=updates,
    ),
).cuda()
optimizer = torch.optim.AdamW(swin.parameters(), lr=1e-3)

it = 0
for epoch in range(EPOCHS):
    swin.train()
    for pixels, disease in leaves:
        if it % ACCUM == 0:
            optimizer.zero_grad()
        loss = swin(pixel_values=pixels.cuda(), labels=disease.cuda()).loss / ACCUM
        loss.backward()
        it += 1
        if it % ACCUM == 0:
            torch.nn.utils.clip_grad_norm_(swin.parameters(), 1.0)
            optimizer.step()
        swin.base_model.update_and_allocate(it // ACCUM)
    print(epoch, loss.item() * ACCUM)
