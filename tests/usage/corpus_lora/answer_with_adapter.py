import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct")
base = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct", torch_dtype=torch.bfloat16)
config = LoraConfig(
    task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], inference_mode=True, r=8,
    lora_alpha=32, lora_dropout=0.1,
)
model = PeftModel.from_pretrained(base, model_id="./checkpoint-100", config=config)
messages = [{"role": "user", "content": "Who are you?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
with torch.no_grad():
    out = model.generate(**inputs, max_length=2500, do_sample=True, top_k=1)
print(tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
