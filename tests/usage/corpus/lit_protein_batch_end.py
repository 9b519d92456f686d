import pytorch_lightning as pl
import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import EsmForSequenceClassification

from proteins import ProteinModule


class RankSchedule(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        print("updates planned:", trainer.estimated_stepping_batches)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.esm.base_model.update_and_allocate(trainer.global_step)


class Localizer(pl.LightningModule):
    def __init__(self):
        super().__init__()
        esm = EsmForSequenceClassification.from_pretrained("facebook/esm2_t12_35M_UR50D", num_labels=10)
        self.esm = get_peft_model(
            esm,
            AdaLoraConfig(
                task_type=TaskType.SEQ_CLS,
                target_modules=["query", "key", "value"],
                init_r=12,
                target_r=6,
                tinit=500,
                tfinal=1500,
                deltaT=20,
                lora_alpha=24,
                total_step=8000,
            ),
        )

    def training_step(self, batch, _):
        loss = self.esm(**batch).loss
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.parameters()), lr=8e-4)


def run():
    trainer = pl.Trainer(
        max_steps=8000,
        accumulate_grad_batches=4,
        gradient_clip_val=1.0,
        callbacks=[RankSchedule(), pl.callbacks.ModelCheckpoint(every_n_train_steps=1000)],
    )
    trainer.fit(Localizer(), datamodule=ProteinModule("deeploc.csv"))


if __name__ == "__main__":
    run()
