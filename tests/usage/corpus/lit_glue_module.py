import pytorch_lightning as pl
import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from transformers import AutoConfig, AutoModelForSequenceClassification

from glue_datamodule import GlueDataModule


class GlueClassifier(pl.LightningModule):
    def __init__(self, model_name, num_labels, total_steps, learning_rate=3e-4, weight_decay=0.01):
        super().__init__()
        self.save_hyperparameters()
        hf_config = AutoConfig.from_pretrained(model_name, num_labels=num_labels)
        backbone = AutoModelForSequenceClassification.from_pretrained(model_name, config=hf_config)
        self.model = get_peft_model(
            backbone,
            AdaLoraConfig(
                task_type=TaskType.SEQ_CLS,
                init_r=12,
                target_r=8,
                lora_alpha=32,
                target_modules=["q_lin", "v_lin"],
                deltaT=10,
                tinit=total_steps // 10,
                tfinal=total_steps // 3,
                total_step=total_steps,
            ),
        )

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def validation_step(self, batch, batch_idx):
        out = self.model(**batch)
        self.log("val_loss", out.loss)
        self.log("val_acc", (out.logits.argmax(-1) == batch["labels"]).float().mean())

    def configure_optimizers(self):
        no_decay = ("bias", "LayerNorm.weight")
        groups = [
            {"params": [p for n, p in self.model.named_parameters() if not n.endswith(no_decay)],
             "weight_decay": self.hparams.weight_decay},
            {"params": [p for n, p in self.model.named_parameters() if n.endswith(no_decay)], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.hparams.learning_rate)


def main():
    pl.seed_everything(7)
    dm = GlueDataModule("distilbert-base-uncased", task="cola", batch_size=32)
    dm.setup("fit")
    steps = len(dm.train_dataloader()) * 5
    module = GlueClassifier("distilbert-base-uncased", dm.num_labels, steps)
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="auto",
        callbacks=[ModelCheckpoint(monitor="val_acc", mode="max"), LearningRateMonitor("step")],
    )
    trainer.fit(module, datamodule=dm)


if __name__ == "__main__":
    main()
