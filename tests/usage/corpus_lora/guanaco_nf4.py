import argparse
from dataclasses import dataclass, field
from typing import Dict, Optional

import bitsandbytes as bnb
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Seq2SeqTrainer

DEFAULT_PAD_TOKEN = "[PAD]"


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="EleutherAI/pythia-12b")


@dataclass
class TrainingArguments(transformers.Seq2SeqTrainingArguments):
    bits: int = field(default=4)
    lora_r: int = field(default=64)
    lora_alpha: float = field(default=16)
    lora_dropout: float = field(default=0.0)


def linear_names(args, model):
    kind = bnb.nn.Linear4bit if args.bits == 4 else torch.nn.Linear
    found = {n.split(".")[-1] for n, m in model.named_modules() if isinstance(m, kind)}
    found.discard("lm_head")
    return list(found)


def resize(special: Dict, tokenizer, model):
    new = tokenizer.add_special_tokens(special)
    model.resize_token_embeddings(len(tokenizer))
    if new > 0:
        table = model.get_input_embeddings().weight.data
        table[-new:] = table[:-new].mean(dim=0, keepdim=True)


def accelerate_model(args, checkpoint_dir):
    model = AutoModelForCausalLM.from_pretrained(
        args.model_name_or_path,
        quantization_config=BitsAndBytesConfig(load_in_4bit=args.bits == 4, bnb_4bit_quant_type="nf4"),
    )
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path, use_fast=False)
    if tokenizer._pad_token is None:
        resize(dict(pad_token=DEFAULT_PAD_TOKEN), tokenizer, model)
    model = prepare_model_for_kbit_training(model)
    if checkpoint_dir is not None:
        model = PeftModel.from_pretrained(model, checkpoint_dir, is_trainable=True)
    else:
        config = LoraConfig(
            r=args.lora_r, lora_alpha=args.lora_alpha, target_modules=linear_names(args, model),
            lora_dropout=args.lora_dropout, bias="none", task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.to(torch.bfloat16)
    return model, tokenizer


def main():
    parser = transformers.HfArgumentParser((ModelArguments, TrainingArguments))
    model_args, training_args = parser.parse_args_into_dataclasses()
    args = argparse.Namespace(**vars(model_args), **vars(training_args))
    model, tokenizer = accelerate_model(args, None)
    trainer = Seq2SeqTrainer(model=model, args=training_args, tokenizer=tokenizer)
    trainer.train()


main()
