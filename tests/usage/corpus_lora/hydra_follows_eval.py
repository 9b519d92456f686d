"""Structured-config trainer; settings come from conf/train.yaml over these defaults."""
from dataclasses import dataclass, field

import hydra
from datasets import load_from_disk
from hydra.core.config_store import ConfigStore
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


@dataclass
class Lora:
    r: int = 16
    alpha: int = 32
    targets: list = field(default_factory=lambda: ["q_proj", "v_proj"])
    do_eval: bool = True


@dataclass
class Cfg:
    model: str = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    lora: Lora = field(default_factory=Lora)
    out: str = "out/hydra"


ConfigStore.instance().store("base", node=Cfg)


@hydra.main(version_base=None, config_name="base")
def main(cfg: Cfg):
    model = AutoModelForCausalLM.from_pretrained(cfg.model)
    model.enable_input_require_grads()
    model = get_peft_model(
        model,
        LoraConfig(
            r=cfg.lora.r,
            lora_alpha=cfg.lora.alpha,
            target_modules=list(cfg.lora.targets),
            task_type="CAUSAL_LM",
            inference_mode=cfg.lora.do_eval,
        ),
    )
    data = load_from_disk("data/tokenised")
    trainer = Trainer(
        model,
        TrainingArguments(cfg.out, eval_strategy="epoch", gradient_checkpointing=True),
        train_dataset=data["train"],
        eval_dataset=data["dev"] if cfg.lora.do_eval else None,
    )
    trainer.train()
    trainer.save_model(cfg.out)


if __name__ == "__main__":
    main()
