# qwen alpaca tune
import math
from dataclasses import dataclass

from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainingArguments)


@dataclass
class Cfg:
    base: str = "Qwen/Qwen2.5-0.5B"
    out: str = "runs/qwen-alpaca"
    bs: int = 4
    accum: int = 8
    epochs: int = 2
    lr: float = 2e-4
    max_len: int = 512


PROMPT = "### Instruction:\n{instruction}\n\n### Response:\n{output}"


def tokenise(tok, cfg):
    def fn(batch):
        txt = [PROMPT.format(instruction=i, output=o) + tok.eos_token
               for i, o in zip(batch["instruction"], batch["output"])]
        return tok(txt, truncation=True, max_length=cfg.max_len)
    return fn


def main(cfg=Cfg()):
    tok = AutoTokenizer.from_pretrained(cfg.base)
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    raw = load_dataset("tatsu-lab/alpaca", split="train")
    ds = raw.map(tokenise(tok, cfg), batched=True, remove_columns=raw.column_names)

    steps = math.ceil(len(ds) / (cfg.bs * cfg.accum)) * cfg.epochs
    peft_cfg = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=16, target_r=8,
        tinit=int(steps * .1), tfinal=int(steps * .2), deltaT=5,
        beta1=0.85, beta2=0.85, orth_reg_weight=0.5,
        total_step=steps,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(cfg.base), peft_cfg)
    model.print_trainable_parameters()

    targs = TrainingArguments(
        cfg.out, per_device_train_batch_size=cfg.bs, gradient_accumulation_steps=cfg.accum,
        max_steps=steps, learning_rate=cfg.lr, bf16=True, logging_steps=20,
        save_strategy="epoch", report_to="none",
    )
    trainer = Trainer(model=model, args=targs, train_dataset=ds,
                      data_collator=DataCollatorForLanguageModeling(tok, mlm=False))
    trainer.train()
    model.save_pretrained(cfg.out + "/final")
    tok.save_pretrained(cfg.out + "/final")


if __name__ == "__main__":
    main()
