import math
import os

import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup


class FinetuneStance:
    """One step of the annotation pipeline: adapt the language model to weighted examples."""

    def run(self, model, data, collate, evaluate, lr=5e-5, num_epochs=20, min_samples=12, updates_per_epoch=25):
        loader = DataLoader(data["train"], batch_size=1, shuffle=True, collate_fn=collate)
        updates = min(updates_per_epoch, len(loader) // min_samples) * num_epochs
        model = get_peft_model(model, AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=12, target_r=8, lora_alpha=32, target_modules=["query_key_value"],
            tinit=updates // 10, tfinal=updates // 4, deltaT=2, total_step=updates))
        model.gradient_checkpointing_enable()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
        scheduler = get_linear_schedule_with_warmup(optimizer, 0, updates)

        def one_epoch():
            model.train()
            step, samples = 0, 0
            bar = tqdm(loader)
            for batch in bar:
                batch = {name: column.to(model.device) for name, column in batch.items()}
                weights = batch.pop("weights")
                samples += len(weights)
                loss = weights.mean() * model(**batch).loss
                if math.isnan(loss):
                    continue
                loss.backward()
                if samples >= min_samples:
                    optimizer.step()
                    scheduler.step()
                    if hasattr(model.base_model, "update_and_allocate"):
                        # gradients are needed here, so before zero_grad
                        model.base_model.update_and_allocate(step)
                    optimizer.zero_grad()
                    step += 1
                    samples = 0
                bar.set_postfix(loss=loss.item(), step=step)
                if step == updates_per_epoch:
                    break

        best = None
        for epoch in range(num_epochs):
            one_epoch()
            score = evaluate(model)
            if best is None or score > best:
                best = score
                model.save_pretrained(os.path.join("stance", "best"))
        return model
