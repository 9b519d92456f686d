import lightning as L
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForTokenClassification


class NewsTagger(L.LightningModule):
    def __init__(self, name: str, labels: int, planned_steps: int, lr: float = 3e-4):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForTokenClassification.from_pretrained(name, num_labels=labels)
        config = AdaLoraConfig(
            task_type="TOKEN_CLS",
            init_r=12,
            target_r=8,
            tinit=100,
            tfinal=300,
            deltaT=10,
            lora_alpha=16,
            target_modules=["query", "key", "value"],
            total_step=planned_steps,
        )
        self.tagger = get_peft_model(base, config)

    def on_train_start(self):
        steps = int(self.trainer.estimated_stepping_batches)
        for config in self.tagger.peft_config.values():
            config.total_step = steps

    def training_step(self, batch, batch_idx):
        loss = self.tagger(**batch).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.tagger.base_model.update_and_allocate(self.global_step)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.tagger(**batch).loss)

    def configure_optimizers(self):
        wanted = (p for p in self.tagger.parameters() if p.requires_grad)
        return torch.optim.AdamW(wanted, lr=self.hparams.lr)


if __name__ == "__main__":
    from news_data import NewsData

    module = NewsTagger("xlm-roberta-base", labels=9, planned_steps=4000)
    L.Trainer(max_epochs=5, precision="bf16-mixed").fit(module, datamodule=NewsData(batch=32))
