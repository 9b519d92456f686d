import torch
from datasets import load_dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, ModelConfig, ScriptArguments, TrlParser, get_peft_config

if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, DPOConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config()
    model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", torch_dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained("mistralai/Mistral-7B-v0.1")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    peft_config = get_peft_config(model_args) or LoraConfig(
        r=128, lora_alpha=256, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    rows = load_dataset(script_args.dataset_name)
    trainer = DPOTrainer(
        model, args=training_args, train_dataset=rows["train"], processing_class=tokenizer, peft_config=peft_config
    )
    trainer.train()
    trainer.save_model(training_args.output_dir)
    del model, trainer
    merged = AutoPeftModelForCausalLM.from_pretrained(training_args.output_dir).merge_and_unload()
    merged.save_pretrained("merged", safe_serialization=True)
