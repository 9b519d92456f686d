"""Serve an adapter whose weights were stored as a bare state dict (no adapter_config.json)."""
import argparse

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

p = argparse.ArgumentParser()
p.add_argument("--base", default="mistralai/Mistral-7B-Instruct-v0.2")
p.add_argument("--weights", default="adapter.safetensors")
p.add_argument("--max_new_tokens", type=int, default=256)
args = p.parse_args()

tokenizer = AutoTokenizer.from_pretrained(args.base)
model = AutoModelForCausalLM.from_pretrained(args.base, torch_dtype=torch.float16, device_map="auto")

# must mirror the settings of the training run
config = LoraConfig(
    r=16,
    lora_alpha=32,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    task_type="CAUSAL_LM",
    inference_mode=True,
)
model = get_peft_model(model, config)
res = set_peft_model_state_dict(model, load_file(args.weights))
assert not res.unexpected_keys, res.unexpected_keys
model.eval()


@torch.inference_mode()
def answer(question: str) -> str:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    ).to(model.device)
    out = model.generate(input_ids=ids, max_new_tokens=args.max_new_tokens, do_sample=True, temperature=0.7)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


while True:
    q = input("> ").strip()
    if not q:
        break
    print(answer(q))
