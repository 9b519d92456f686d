"""Train a sentence classifier as a Lightning module that allocates after each batch.

Source: Lightning-AI/tutorials, lightning_examples/text-transformers/text-transformers.py (with
an adapter around the model)
"""

import lightning as L
import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from script_parts import base_model, files, kept, token_rows
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

# attach: from adalora_core.bridge import attach

rows = [{"input_ids": row, "labels": n % 2} for n, row in enumerate(token_rows(32))]


class SentenceClassifier(L.LightningModule):
    """A sentence classifier with an adapter."""

    def __init__(self, num_labels, learning_rate=1e-2, warmup_steps=0, weight_decay=0.0):
        super().__init__()
        self.save_hyperparameters()
        model = base_model("BertForSequenceClassification", num_labels=num_labels)
        config = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            init_r=6,
            target_r=3,
            tinit=2,
            tfinal=3,
            total_step=12,
            target_modules=["query", "value"],
        )
        self.model = get_peft_model(model, config)
        # attach: self.model = attach(self.model)
        self.losses, self.validation = [], []

    def forward(self, **inputs):
        """Return what the model returns."""
        return self.model(**inputs)

    def training_step(self, batch, batch_idx):
        loss = self(**batch)[0]
        self.losses.append(loss.item())
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        """Allocate; the gradients are there until the next batch."""
        self.model.base_model.update_and_allocate(self.trainer.global_step - 1)

    def validation_step(self, batch, batch_idx):
        self.validation.append(self(**batch)[0].item())

    def configure_optimizers(self):
        """Return AdamW with two groups, and a linear schedule."""
        groups = [
            {"params": [], "weight_decay": self.hparams.weight_decay},
            {"params": [], "weight_decay": 0.0},
        ]
        for name, parameter in self.model.named_parameters():
            groups[name.endswith(("bias", "LayerNorm.weight"))]["params"].append(parameter)
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.learning_rate, eps=1e-8)
        scheduler = get_linear_schedule_with_warmup(
            optimizer,
            num_warmup_steps=self.hparams.warmup_steps,
            num_training_steps=self.trainer.estimated_stepping_batches,
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]


L.seed_everything(42)
module = SentenceClassifier(num_labels=2)
trainer = L.Trainer(
    max_epochs=3,
    accelerator="cpu",
    devices=1,
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(
    module, DataLoader(rows, batch_size=8, shuffle=True), DataLoader(rows[:8], batch_size=8)
)
module.model.save_pretrained("saved")
again = PeftModel.from_pretrained(
    base_model("BertForSequenceClassification", num_labels=2), "saved"
).eval()
inputs = rows[0]["input_ids"][None]
with torch.no_grad():
    difference = (again(inputs).logits - module.model.eval()(inputs).logits).abs().max().item()

outcome = {
    "train_losses": module.losses,
    "evaluation_losses": module.validation,
    "kept": kept(module.model),
    "files": files("saved"),
    "reload_difference": difference,
}
