"""Will the appeal against a parking ticket succeed?"""
import logging

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from appeals import Appeals

log = logging.getLogger("appeals")
UPDATE_EVERY = 10


class AppealClassifier:
    def __init__(self, checkpoint="distilroberta-base", epochs=6, batch_size=16, device="cuda"):
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.base = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
        self.epochs, self.batch_size, self.device = epochs, batch_size, device

    def fit(self, rows):
        loader = DataLoader(Appeals(rows, self.tokenizer), self.batch_size, shuffle=True)
        total = len(loader) * self.epochs
        config = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            init_r=12,
            target_r=6,
            lora_alpha=24,
            target_modules=["query", "value"],
            tinit=total // 10,
            tfinal=total // 4,
            deltaT=UPDATE_EVERY,
            total_step=total,
        )
        self.model = get_peft_model(self.base, config).to(self.device)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4)
        scheduler = get_linear_schedule_with_warmup(optimizer, total // 20, total)
        steps = 0
        for epoch in range(self.epochs):
            self.model.train()
            for batch in loader:
                batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
                loss = self.model(**batch).loss
                loss.backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                steps += 1
                if steps % UPDATE_EVERY == 0:
                    self.model.base_model.update_and_allocate(steps)
            log.info("epoch %d: loss %.4f", epoch, loss.item())
        return self
