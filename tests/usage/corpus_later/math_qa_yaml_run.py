import os
import sys

import yaml
from datasets import load_dataset
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

from prompts import tokenised


class AllocateRanks(TrainerCallback):
    """Prune while `.grad` is filled: after backward, once for each accumulated step."""

    def __init__(self, model):
        self.model = model
        self.ran = False

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.ran = True
        self.model.base_model.update_and_allocate(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        assert self.ran, "hook missing: transformers is older than 4.42"


def main(path):
    with open(path) as fh:
        conf = yaml.safe_load(fh)
    set_seed(conf.get("seed", 42))
    if conf.get("wandb"):
        os.environ["WANDB_PROJECT"] = conf["wandb"]["project"]

    tok = AutoTokenizer.from_pretrained(conf["model"])
    model = AutoModelForCausalLM.from_pretrained(conf["model"], torch_dtype="auto")
    train = load_dataset("openai/gsm8k", "main", split="train").map(tokenised(tok))
    targs = TrainingArguments(**conf["training"])

    peft = conf["peft"]
    callbacks = []
    if peft["method"] == "adalora":
        model = get_peft_model(model, AdaLoraConfig(
            task_type="CAUSAL_LM",
            init_r=peft["init_r"],
            target_r=peft["target_r"],
            lora_alpha=peft["alpha"],
            tinit=peft["tinit"],
            tfinal=peft["tfinal"],
            deltaT=peft["delta_t"],
            total_step=peft["total_step"],
            target_modules=peft["modules"],
        ))
        callbacks.append(AllocateRanks(model))
    else:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=peft["r"]))

    Trainer(model=model, args=targs, train_dataset=train, callbacks=callbacks).train()


if __name__ == "__main__":
    main(sys.argv[1])
