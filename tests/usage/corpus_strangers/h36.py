import torch
from dataclasses import dataclass
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainerCallback, TrainingArguments)


@dataclass
class RunConfig:
    model: str = "Qwen/Qwen2.5-1.5B"
    max_steps: int = 1200
    warmup_steps: int = 60
    batch: int = 2
    accum: int = 8
    lr: float = 4e-4
    # AdaLoRA
    init_r: int = 16
    target_r: int = 8
    tinit: int = 500
    tfinal: int = 1000
    delta_t: int = 10


class Allocator(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def tokenise(tok, name="databricks/databricks-dolly-15k"):
    ds = load_dataset(name, split="train")

    def f(ex):
        text = [f"### Instruction\n{i}\n\n### Response\n{r}{tok.eos_token}"
                for i, r in zip(ex["instruction"], ex["response"])]
        return tok(text, truncation=True, max_length=768)

    return ds.map(f, batched=True, remove_columns=ds.column_names)


def main(rc: RunConfig):
    tok = AutoTokenizer.from_pretrained(rc.model)
    model = AutoModelForCausalLM.from_pretrained(rc.model, torch_dtype=torch.bfloat16)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=rc.init_r,
        target_r=rc.target_r,
        tinit=rc.tinit,
        tfinal=rc.tfinal,
        deltaT=rc.delta_t,
        lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        total_step=rc.max_steps,
    ))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "dolly", max_steps=rc.max_steps, warmup_steps=rc.warmup_steps,
            per_device_train_batch_size=rc.batch, gradient_accumulation_steps=rc.accum,
            learning_rate=rc.lr, bf16=True, logging_steps=10, save_steps=400),
        train_dataset=tokenise(tok),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
        callbacks=[Allocator()],
    )
    trainer.train()
    model.save_pretrained("dolly/final")


if __name__ == "__main__":
    main(RunConfig())
