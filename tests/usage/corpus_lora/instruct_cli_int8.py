import fire
import torch
import transformers
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, prepare_model_for_int8_training
from transformers import LlamaForCausalLM, LlamaTokenizer


def train(
    base_model: str = "huggyllama/llama-7b",
    data_path: str = "instructions.json",
    output_dir: str = "./out",
    micro_batch: int = 4,
    epochs: int = 3,
    lora_r: int = 8,
    lora_alpha: int = 16,
    lora_dropout: float = 0.05,
    lora_target_modules: list[str] = ["q_proj", "v_proj"],
    cutoff: int = 256,
):
    model = LlamaForCausalLM.from_pretrained(base_model, load_in_8bit=True, device_map="auto")
    tokenizer = LlamaTokenizer.from_pretrained(base_model)
    tokenizer.pad_token_id = 0
    tokenizer.padding_side = "left"

    def encode(row):
        return tokenizer(row["text"], truncation=True, max_length=cutoff)

    model = prepare_model_for_int8_training(model)
    config = LoraConfig(
        r=lora_r,
        lora_alpha=lora_alpha,
        target_modules=lora_target_modules,
        lora_dropout=lora_dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config)
    rows = load_dataset("json", data_files=data_path)["train"].shuffle().map(encode)
    trainer = transformers.Trainer(
        model=model,
        train_dataset=rows,
        args=transformers.TrainingArguments(
            per_device_train_batch_size=micro_batch, num_train_epochs=epochs,
            learning_rate=3e-4, fp16=True, output_dir=output_dir,
        ),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, return_tensors="pt", padding=True),
    )
    model.config.use_cache = False
    old = model.state_dict
    model.state_dict = (lambda self, *_, **__: get_peft_model_state_dict(self, old())).__get__(model, type(model))
    trainer.train()
    model.save_pretrained(output_dir)


if __name__ == "__main__":
    fire.Fire(train)
