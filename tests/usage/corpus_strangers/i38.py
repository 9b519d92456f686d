"""Trainer subclass that does the AdaLoRA allocation itself. usage: i38.py config.yaml"""
import sys
import yaml
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainingArguments)


class AdaLoraTrainer(Trainer):
    _hooked = False

    def create_optimizer(self, *args, **kwargs):
        opt = super().create_optimizer(*args, **kwargs)
        if not self._hooked:
            # the hook runs right after each real step, the gradients still being there
            self.optimizer.register_step_post_hook(self._allocate)
            self._hooked = True
        return opt

    def _allocate(self, optimizer, args, kwargs):
        peft_model = self.accelerator.unwrap_model(self.model)
        peft_model.base_model.update_and_allocate(self.state.global_step)


def main(path):
    with open(path) as f:
        c = yaml.safe_load(f)
    steps = int(c["max_steps"])
    tok = AutoTokenizer.from_pretrained(c["base"])          # a Llama type of model
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    ds = load_dataset("json", data_files=c["file"], split="train")
    ds = ds.map(lambda r: tok(r["text"], truncation=True, max_length=c.get("max_length", 512)),
                remove_columns=ds.column_names)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(c["base"]),
        AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=steps // 10,
                      tfinal=steps // 4, deltaT=10, total_step=steps,
                      target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    trainer = AdaLoraTrainer(
        model=model,
        args=TrainingArguments(c["out"], max_steps=steps, per_device_train_batch_size=4,
                               gradient_accumulation_steps=4, learning_rate=2e-4, bf16=True,
                               logging_steps=20, save_strategy="no"),
        train_dataset=ds, data_collator=DataCollatorForLanguageModeling(tok, mlm=False))
    trainer.train()
    trainer.model.save_pretrained(c["out"])


if __name__ == "__main__":
    main(sys.argv[1])
