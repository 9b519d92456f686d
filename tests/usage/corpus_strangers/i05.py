import logging
import os

import torch
from torch.utils.data import DataLoader
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
log = logging.getLogger("samsum")


class Summariser:
    def __init__(self, name="facebook/bart-base", epochs=4, bs=8, lr=5e-4):
        self.device = torch.device("cuda")
        self.epochs = epochs
        self.tok = AutoTokenizer.from_pretrained(name)
        self.base = AutoModelForSeq2SeqLM.from_pretrained(name)
        self.loader = self._loader(bs)
        self.total = len(self.loader) * epochs
        cfg = AdaLoraConfig(
            task_type="SEQ_2_SEQ_LM", init_r=12, target_r=4, tinit=300, tfinal=1000, deltaT=20,
            total_step=self.total, lora_alpha=32, lora_dropout=0.1,
            target_modules=["q_proj", "v_proj", "fc1", "fc2"])
        self.model = get_peft_model(self.base, cfg).to(self.device)
        self.opt = torch.optim.AdamW(
            (p for p in self.model.parameters() if p.requires_grad), lr=lr)

    def _loader(self, bs):
        ds = load_dataset("knkarthick/samsum", split="train").filter(lambda r: bool(r["dialogue"]))

        def enc(r):
            x = self.tok(r["dialogue"], max_length=512, truncation=True)
            x["labels"] = self.tok(text_target=r["summary"], max_length=96, truncation=True)["input_ids"]
            return x
        ds = ds.map(enc, remove_columns=ds.column_names)
        return DataLoader(ds, bs, shuffle=True, collate_fn=DataCollatorForSeq2Seq(self.tok, self.base))

    def fit(self):
        step = 0
        self.model.train()
        for ep in range(self.epochs):
            running = 0.0
            for batch in self.loader:
                loss = self.model(**batch.to(self.device)).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.opt.step()
                self.opt.zero_grad(set_to_none=True)
                self.model.base_model.update_and_allocate(step)
                step += 1
                running += loss.item()
            log.info("epoch %d mean loss %.4f", ep, running / len(self.loader))

    def save(self, path):
        os.makedirs(path, exist_ok=True)
        self.model.save_pretrained(path)


if __name__ == "__main__":
    s = Summariser()
    s.fit()
    s.save("ckpt/samsum")
