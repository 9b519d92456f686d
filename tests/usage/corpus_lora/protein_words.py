from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from proteins import AMINO_ACIDS, encode, rows

name = "meta-llama/Llama-3.2-1B"
tokenizer = AutoTokenizer.from_pretrained(name)
tokenizer.pad_token = tokenizer.eos_token
tokenizer.add_tokens([f"<aa_{letter}>" for letter in AMINO_ACIDS])
model = AutoModelForCausalLM.from_pretrained(name)
model.resize_token_embeddings(len(tokenizer))
config = LoraConfig(
    r=16, lora_alpha=32, lora_dropout=0.05, task_type="CAUSAL_LM",
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
)
model = get_peft_model(model, config)
args = TrainingArguments("proteins", num_train_epochs=2, learning_rate=2e-4)
Trainer(model=model, args=args, train_dataset=rows.map(lambda r: encode(tokenizer, r))).train()
