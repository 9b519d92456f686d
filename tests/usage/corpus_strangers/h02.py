# RTE with AdaLoRA. Single GPU.
from dataclasses import dataclass

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding


@dataclass
class Cfg:
    name: str = "microsoft/deberta-v3-base"
    epochs: int = 10
    bs: int = 16
    lr: float = 1e-3
    clip: float = 1.0
    max_len: int = 256


class Stepper:
    """Small helper so that the loop below stays readable."""

    def __init__(self, params, lr, clip, total):
        self.params = [p for p in params if p.requires_grad]
        self.opt = torch.optim.AdamW(self.params, lr=lr, weight_decay=0.01)
        self.sched = torch.optim.lr_scheduler.LinearLR(
            self.opt, start_factor=1.0, end_factor=0.0, total_iters=total
        )
        self.clip = clip

    def __call__(self, loss):
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.clip)
        self.opt.step()
        self.sched.step()
        self.opt.zero_grad(set_to_none=True)
        return norm.item()


def main(c: Cfg):
    tok = AutoTokenizer.from_pretrained(c.name)
    data = load_dataset("glue", "rte")
    data = data.map(
        lambda b: tok(b["sentence1"], b["sentence2"], truncation=True, max_length=c.max_len),
        batched=True,
    )
    data = data.remove_columns(["sentence1", "sentence2", "idx"]).rename_column("label", "labels")
    loader = DataLoader(
        data["train"], batch_size=c.bs, shuffle=True, collate_fn=DataCollatorWithPadding(tok)
    )
    total = c.epochs * len(loader)

    model = AutoModelForSequenceClassification.from_pretrained(c.name, num_labels=2)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type="SEQ_CLS",
            target_modules=["query_proj", "key_proj", "value_proj"],
            init_r=8,
            target_r=4,
            lora_alpha=16,
            tinit=total // 10,
            tfinal=total // 3,
            deltaT=5,
            total_step=total,
        ),
    ).cuda()

    stepper = Stepper(model.parameters(), c.lr, c.clip, total)
    step = 0
    for ep in range(c.epochs):
        model.train()
        for batch in loader:
            batch = batch.to("cuda")
            out = model(**batch)
            norm = stepper(out.loss)
            model.base_model.update_and_allocate(step)
            step += 1
            if step % 50 == 0:
                print(ep, step, out.loss.item(), norm)
    model.save_pretrained("rte-adalora")


if __name__ == "__main__":
    main(Cfg())
