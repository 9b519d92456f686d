import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, get_scheduler

from catalogue import f1_of, pair_loaders

EPOCHS = 5
ACCUMULATION = 8


class Matcher:
    def __init__(self, name="sentence-transformers/all-mpnet-base-v2", rank=6):
        self.accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATION)
        self.train_loader, self.dev_loader = pair_loaders("wdc_large", batch_size=4)
        self.model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        self.model = self.adapt(rank)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-4)

    def adapt(self, rank):
        config = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            init_r=rank + 4,
            target_r=rank,
            lora_alpha=rank * 2,
            lora_dropout=0.1,
            target_modules=["q", "k", "v"],
            tinit=300,
            tfinal=600,
            deltaT=10,
            total_step=len(self.train_loader) * EPOCHS,
        )
        return get_peft_model(self.model, config)

    def fit(self):
        acc = self.accelerator
        n = len(self.train_loader) // ACCUMULATION * EPOCHS
        schedule = get_scheduler("cosine", self.optimizer, num_warmup_steps=n // 10, num_training_steps=n)
        model, optimizer, loader, schedule = acc.prepare(self.model, self.optimizer, self.train_loader, schedule)
        done = 0
        for epoch in range(EPOCHS):
            model.train()
            for batch in loader:
                with acc.accumulate(model):
                    acc.backward(model(**batch).loss)
                    optimizer.step()
                    schedule.step()
                    if acc.sync_gradients:
                        acc.unwrap_model(model).base_model.update_and_allocate(done)
                        done += 1
                    optimizer.zero_grad()
            acc.print(epoch, f1_of(model, self.dev_loader))


if __name__ == "__main__":
    Matcher().fit()
