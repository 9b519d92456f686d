"""Lightning, manual optimisation (so accumulation and AdaLoRA are both under our control)."""
import pytorch_lightning as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

ACC = 4


class T5Lit(pl.LightningModule):
    def __init__(self, total):
        super().__init__()
        self.automatic_optimization = False
        base = AutoModelForSeq2SeqLM.from_pretrained("t5-small")
        self.net = get_peft_model(
            base,
            AdaLoraConfig(
                task_type="SEQ_2_SEQ_LM",
                init_r=8,
                target_r=4,
                lora_alpha=16,
                target_modules=["q", "v"],
                tinit=total // 10,
                tfinal=total // 5,
                deltaT=4,
                total_step=total,
            ),
        )
        self.net.train()
        self.n_updates = 0

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        loss = self.net(**batch).loss
        self.manual_backward(loss / ACC)
        if (batch_idx + 1) % ACC == 0:
            self.clip_gradients(opt, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
            opt.step()
            self.net.base_model.update_and_allocate(self.n_updates)
            self.n_updates += 1
            opt.zero_grad()
        self.log("loss", loss.detach(), prog_bar=True)

    def on_train_epoch_start(self):
        # leftovers of an incomplete group of the previous epoch are dropped
        self.optimizers().zero_grad()

    def configure_optimizers(self):
        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.net.parameters()), lr=1e-3)


def get_loader():
    tok = AutoTokenizer.from_pretrained("t5-small")
    ds = load_dataset("Helsinki-NLP/opus_books", "en-fr", split="train[:20000]")

    def f(ex):
        src = ["translate English to French: " + t["en"] for t in ex["translation"]]
        tgt = [t["fr"] for t in ex["translation"]]
        return tok(src, text_target=tgt, truncation=True, max_length=128)

    ds = ds.map(f, batched=True, remove_columns=ds.column_names)
    return DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tok))


if __name__ == "__main__":
    epochs = 3
    loader = get_loader()
    lit = T5Lit(total=(len(loader) // ACC) * epochs)
    pl.Trainer(max_epochs=epochs, accelerator="gpu", devices=1).fit(lit, loader)
    lit.net.save_pretrained("t5-adalora")
