import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from notes import NOTE_NAMES, loader

tokenizer = AutoTokenizer.from_pretrained("gpt2-medium")
model = AutoModelForCausalLM.from_pretrained("gpt2-medium")
first = len(tokenizer)
added = tokenizer.add_tokens([f"<{name}>" for name in NOTE_NAMES])
model.resize_token_embeddings(len(tokenizer))
config = LoraConfig(
    r=32,
    lora_alpha=32,
    target_modules=["c_attn", "c_proj"],
    fan_in_fan_out=True,
    trainable_token_indices=list(range(first, first + added)),
)
model = get_peft_model(model, config).cuda()
optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)
for epoch in range(4):
    for batch in loader(tokenizer):
        batch = batch.to("cuda")
        out = model(input_ids=batch, labels=batch)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.save_pretrained(f"music/{epoch}")
