import lightning.pytorch as pl
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq
from datasets import load_dataset
from torch.utils.data import DataLoader

ACC = 4


class Translator(pl.LightningModule):
    """Manual optimisation, because we accumulate by hand."""

    def __init__(self, name, n_batches, epochs):
        super().__init__()
        self.automatic_optimization = False
        total = (n_batches // ACC) * epochs
        self.net = get_peft_model(
            AutoModelForSeq2SeqLM.from_pretrained(name),
            AdaLoraConfig(task_type="SEQ_2_SEQ_LM", init_r=10, target_r=5, total_step=total,
                          tinit=total // 10, tfinal=total // 5, deltaT=10,
                          target_modules=["q", "k", "v", "o"]))
        self.updates = 0

    def training_step(self, batch, i):
        opt = self.optimizers()
        loss = self.net(**batch).loss
        self.manual_backward(loss / ACC)
        if (i + 1) % ACC == 0:
            opt.step()
            self.net.base_model.update_and_allocate(self.updates)
            opt.zero_grad()
            self.updates += 1
        self.log("loss", loss.detach())

    def on_train_epoch_end(self):
        self.optimizers().zero_grad()   # drop the incomplete rest
        self.net.save_pretrained(f"opus/epoch{self.current_epoch}")

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.net.parameters() if p.requires_grad], lr=1e-3)


def main():
    name, epochs = "t5-small", 3
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("opus_books", "en-fr", split="train[:40000]")

    def enc(b):
        src = ["translate English to French: " + t["en"] for t in b["translation"]]
        x = tok(src, truncation=True, max_length=128)
        x["labels"] = tok(text_target=[t["fr"] for t in b["translation"]],
                          truncation=True, max_length=128)["input_ids"]
        return x

    ds = ds.map(enc, batched=True, remove_columns=ds.column_names)
    dl = DataLoader(ds, 16, shuffle=True, drop_last=True, collate_fn=DataCollatorForSeq2Seq(tok))
    pl.Trainer(max_epochs=epochs, devices=1, accelerator="gpu").fit(
        Translator(name, len(dl), epochs), dl)


if __name__ == "__main__":
    main()
