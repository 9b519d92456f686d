"""Trainer has no place between step() and zero_grad() on old releases; make one."""
import types

from peft import AdaLoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments


class ZeroGradBridge(TrainerCallback):
    def __init__(self):
        self.finished = 0

    def on_train_begin(self, args, state, control, **kwargs):
        net = kwargs["model"]
        net.peft_config["default"].total_step = state.max_steps
        bridge = self

        def zero_grad(this, *a, **k):
            this.base_model.update_and_allocate(bridge.finished + 1)
            this._plain_zero_grad(*a, **k)

        net._plain_zero_grad = net.zero_grad
        net.zero_grad = types.MethodType(zero_grad, net)

    def on_step_end(self, args, state, control, **kwargs):
        self.finished = state.global_step


def train(base, dataset, collator, out_dir, planned):
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=6,
        lora_alpha=24,
        tinit=planned // 10,
        tfinal=planned // 5,
        deltaT=10,
        total_step=planned,
        target_modules=["c_attn"],
        fan_in_fan_out=True,
    )
    model = get_peft_model(base, config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(out_dir, num_train_epochs=2, learning_rate=2e-4),
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[ZeroGradBridge()],
    )
    return trainer.train()
