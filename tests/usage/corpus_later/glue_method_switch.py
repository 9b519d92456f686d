"""One GLUE task, three adapters: lora, ia3, adalora."""
import argparse
import math

from peft import AdaLoraConfig, IA3Config, LoraConfig, get_peft_model
from transformers import (AutoModelForSequenceClassification, Trainer, TrainerCallback,
                          TrainingArguments)

from glue import encoded


class MethodHooks(TrainerCallback):
    def __init__(self, adaptive, log_every=200):
        self.adaptive = adaptive
        self.log_every = log_every

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.adaptive:
            kwargs["model"].base_model.update_and_allocate(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.log_every == 0:
            norm = sum(p.norm().item() for n, p in kwargs["model"].named_parameters() if "lora_" in n)
            print(f"{state.global_step}: adapter norm {norm:.2f}")


ap = argparse.ArgumentParser()
ap.add_argument("--task", default="rte")
ap.add_argument("--method", choices=("lora", "ia3", "adalora"), default="lora")
ap.add_argument("--bs", type=int, default=32)
ap.add_argument("--epochs", type=int, default=20)
opt = ap.parse_args()

data = encoded(opt.task, "roberta-base")
targets = ["query", "value"]
total = math.ceil(len(data["train"]) / opt.bs) * opt.epochs

if opt.method == "lora":
    adapter = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=targets)
elif opt.method == "ia3":
    adapter = IA3Config(task_type="SEQ_CLS", target_modules=targets + ["output.dense"],
                        feedforward_modules=["output.dense"])
else:
    adapter = AdaLoraConfig(task_type="SEQ_CLS", init_r=12, target_r=8, lora_alpha=16,
                            target_modules=targets, tinit=total // 10, tfinal=total // 4,
                            deltaT=10, total_step=total)

net = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)
net = get_peft_model(net, adapter)
trainer = Trainer(
    net,
    TrainingArguments(f"out/{opt.task}-{opt.method}", num_train_epochs=opt.epochs,
                      per_device_train_batch_size=opt.bs, learning_rate=1e-3),
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    callbacks=[MethodHooks(opt.method == "adalora")],
)
trainer.train()
print(trainer.evaluate())
