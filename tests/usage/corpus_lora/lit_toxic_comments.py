import lightning as L
import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import AutoModel


class ToxicComments(L.LightningModule):
    """An encoder with LoRA, and a head of one's own beside it."""

    def __init__(self, name="microsoft/deberta-v3-base", num_labels=6, rank=16, lr=2e-4):
        super().__init__()
        self.save_hyperparameters()
        encoder = AutoModel.from_pretrained(name)
        config = LoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION, r=rank, lora_alpha=2 * rank,
            target_modules=["query_proj", "key_proj", "value_proj"],
        )
        self.encoder = get_peft_model(encoder, config)
        self.classifier = nn.Linear(encoder.config.hidden_size, num_labels)
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, ids, mask):
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.classifier(hidden[:, 0])

    def training_step(self, batch, index):
        loss = self.loss(self(batch["ids"], batch["mask"]), batch["labels"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


def main(data):
    L.Trainer(max_epochs=3, precision="bf16-mixed").fit(ToxicComments(), datamodule=data)
