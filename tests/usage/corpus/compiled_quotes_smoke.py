"""Does a compiled model with an adapter still learn? Run once per release."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, LoHaConfig, LoraConfig, PeftType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME = "hf-internal-testing/tiny-random-OPTForCausalLM"
BATCH = 4
STEPS = 60

CONFIGS = {
    "lora": LoraConfig(task_type="CAUSAL_LM"),
    "loha": LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    "adalora": AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=5, tfinal=10, deltaT=2, total_step=STEPS
    ),
}


def fine_tune(config):
    tokenizer = AutoTokenizer.from_pretrained(NAME)
    quotes = load_dataset("ybelkada/english_quotes_copy").map(lambda row: tokenizer(row["quote"]), batched=True)
    net = get_peft_model(AutoModelForCausalLM.from_pretrained(NAME, device_map="auto"), config)
    net = torch.compile(net)
    net.train()
    net.config.use_cache = False
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    for i in range(0, STEPS * BATCH, BATCH):
        batch = tokenizer.pad(quotes["train"][i : i + BATCH], return_tensors="pt").to(net.device)
        batch["labels"] = batch.input_ids.clone()
        optimizer.zero_grad()
        loss = net(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if config.peft_type == PeftType.ADALORA:
            net.base_model.update_and_allocate(i)
    return losses


for label, config in CONFIGS.items():
    curve = fine_tune(config)
    print(label, "ok" if curve[-1] < curve[0] else "NOT LEARNING", curve[-1])
