import lightning as L
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import SegformerForSemanticSegmentation


def dice(logits, mask, eps=1.0):
    prob = torch.sigmoid(logits)
    inter = (prob * mask).sum((1, 2, 3))
    return (1 - (2 * inter + eps) / (prob.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + eps)).mean()


class PolypSegmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        segformer = SegformerForSemanticSegmentation.from_pretrained("nvidia/mit-b2", num_labels=1)
        cfg = AdaLoraConfig(
            target_modules=["query", "value"],
            modules_to_save=["decode_head"],
            init_r=12,
            target_r=4,
            tinit=300,
            tfinal=600,
            deltaT=10,
            total_step=3000,
            lora_alpha=24,
            orth_reg_weight=0.3,
        )
        self.seg = get_peft_model(segformer, cfg)

    def training_step(self, batch, batch_idx):
        images, masks = batch
        optimizer = self.optimizers()
        out = self.seg(pixel_values=images)
        up = torch.nn.functional.interpolate(out.logits, size=masks.shape[-2:], mode="bilinear")
        loss = dice(up, masks)
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        self.seg.base_model.update_and_allocate(self.global_step)
        self.log("dice", 1 - loss)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.seg.parameters(), lr=4e-4, weight_decay=1e-2)


if __name__ == "__main__":
    from polyps import loaders

    train, val = loaders("kvasir", size=352, batch_size=8)
    L.Trainer(max_steps=3000, accelerator="gpu").fit(PolypSegmenter(), train)
