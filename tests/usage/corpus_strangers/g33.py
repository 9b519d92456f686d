import torch
import wandb
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, get_linear_schedule_with_warmup

settings = {
    "model": "t5-small", "epochs": 5, "micro_batch": 4, "grad_accum": 8, "lr": 3e-3, "warmup": 50,
}


class Trainer:
    def __init__(self, s):
        self.s = s
        self.tok = AutoTokenizer.from_pretrained(s["model"])
        net = AutoModelForSeq2SeqLM.from_pretrained(s["model"])
        self.loader = DataLoader(self.data(), s["micro_batch"], shuffle=True,
                                 collate_fn=DataCollatorForSeq2Seq(self.tok, model=net))
        self.total = len(self.loader) // s["grad_accum"] * s["epochs"]
        cfg = AdaLoraConfig(task_type="SEQ_2_SEQ_LM", init_r=12, target_r=8, tinit=self.total // 10,
                            tfinal=self.total // 3, deltaT=5, total_step=self.total,
                            target_modules=["q", "k", "v", "o"])
        self.model = get_peft_model(net, cfg).cuda()
        self.opt = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=s["lr"])
        self.sched = get_linear_schedule_with_warmup(self.opt, s["warmup"], self.total)
        self.count = 0

    def data(self):
        ds = load_dataset("wikisql", split="train", trust_remote_code=True)

        def f(b):
            x = self.tok(["to sql: " + q for q in b["question"]], truncation=True, max_length=96)
            x["labels"] = self.tok(text_target=[s["human_readable"] for s in b["sql"]], truncation=True,
                                   max_length=96)["input_ids"]
            return x

        return ds.map(f, batched=True, remove_columns=ds.column_names)

    def optimizer_step(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.sched.step()

    def run(self):
        accum = self.s["grad_accum"]
        for epoch in range(self.s["epochs"]):
            self.model.train()
            for i, batch in enumerate(self.loader):
                batch = batch.to("cuda")
                loss = self.model(**batch).loss / accum
                loss.backward()
                boundary = (i + 1) % accum == 0
                if boundary:
                    self.optimizer_step()
                self.count += 1
                self.model.base_model.update_and_allocate(self.count)
                if boundary:
                    self.opt.zero_grad()
                    wandb.log({"loss": loss.item() * accum, "lr": self.sched.get_last_lr()[0], "epoch": epoch})
            self.model.save_pretrained(f"sql-adalora/{epoch}")


if __name__ == "__main__":
    wandb.init(project="t5-sql", config=settings)
    Trainer(settings).run()
    wandb.finish()
