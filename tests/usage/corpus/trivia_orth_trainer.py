import math

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForMultipleChoice, Trainer, TrainerCallback, TrainingArguments

from trivia import choices_collator, load_trivia


def orthogonality(model, weight):
    total, count = 0.0, 0
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = p @ p.T if "lora_A" in name else p.T @ p
            eye = torch.eye(gram.size(0), device=gram.device, dtype=gram.dtype)
            total = total + torch.norm(gram - eye, p="fro")
            count += 1
    return weight * total / max(count, 1)


class OrthTrainer(Trainer):
    def __init__(self, *args, orth_weight=0.5, gamma=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.orth_weight = orth_weight
        self.gamma = gamma

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logp = torch.log_softmax(outputs.logits, dim=-1).gather(1, labels[:, None]).squeeze(1)
        focal = -((1 - logp.exp()) ** self.gamma * logp).mean()
        loss = focal + orthogonality(model, self.orth_weight)
        return (loss, outputs) if return_outputs else loss


class PerUpdate(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


EPOCHS, BS, ACC = 4, 8, 2
train, dev = load_trivia("train"), load_trivia("validation")
n = math.ceil(math.ceil(len(train) / BS) / ACC) * EPOCHS

model = get_peft_model(
    AutoModelForMultipleChoice.from_pretrained("albert-base-v2"),
    AdaLoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        target_modules=["query", "value"],
        init_r=10,
        target_r=5,
        lora_alpha=20,
        tinit=n // 10,
        tfinal=n // 4,
        deltaT=10,
        total_step=n,
    ),
)
OrthTrainer(
    model=model,
    args=TrainingArguments(
        "runs/trivia", num_train_epochs=EPOCHS, per_device_train_batch_size=BS, gradient_accumulation_steps=ACC
    ),
    train_dataset=train,
    eval_dataset=dev,
    data_collator=choices_collator,
    callbacks=[PerUpdate()],
    orth_weight=0.5,
).train()
