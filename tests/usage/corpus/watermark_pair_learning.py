import argparse
from itertools import chain

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, get_scheduler

from pairs import paired_batches

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="facebook/opt-1.3b")
parser.add_argument("--adapters", action="store_true")
parser.add_argument("--lr", type=float, default=2e-5)
parser.add_argument("--steps", type=int, default=400)
args = parser.parse_args()
device = torch.device("cuda")

marked = AutoModelForCausalLM.from_pretrained(args.model)
plain = AutoModelForCausalLM.from_pretrained(args.model)
if args.adapters:
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=False,
        r=128,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
    )
    marked = get_peft_model(marked, config)
    plain = get_peft_model(plain, config)
marked.to(device)
plain.to(device)

optimizer = torch.optim.AdamW(chain(marked.parameters(), plain.parameters()), lr=args.lr, weight_decay=0)
scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=4, num_training_steps=args.steps)
marked.train()
plain.train()

for number, (secret, ordinary) in enumerate(paired_batches(args.model, device)):
    with_key = marked(**secret).logits[:, :-1].flatten(0, 1)
    without = plain(**ordinary).logits[:, :-1].flatten(0, 1)
    loss = cross_entropy(with_key, secret["input_ids"][:, 1:].flatten())
    loss = loss + cross_entropy(without, ordinary["input_ids"][:, 1:].flatten())
    loss.backward()
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    if number + 1 == args.steps:
        break

marked.save_pretrained("marked")
plain.save_pretrained("plain")
