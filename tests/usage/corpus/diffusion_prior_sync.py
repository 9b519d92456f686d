import argparse

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from tqdm import tqdm

from prior import PriorModel, endless, shards

p = argparse.ArgumentParser()
p.add_argument("--steps", type=int, required=True)
p.add_argument("--accumulation", type=int, default=4)
p.add_argument("--clip", type=float, default=1.0)
p.add_argument("--freeze", action="store_true")
args = p.parse_args()

accelerator = Accelerator(gradient_accumulation_steps=args.accumulation, mixed_precision="bf16")
prior = PriorModel.from_pretrained("ckpt/prior")
if args.freeze:
    prior.transformer = get_peft_model(
        prior.transformer,
        AdaLoraConfig(
            target_modules=["to_q", "to_k", "to_v"],
            init_r=16,
            target_r=8,
            lora_alpha=32,
            tinit=args.steps // 10,
            tfinal=args.steps // 5,
            deltaT=20,
            total_step=args.steps,
        ),
    )

trainable = [w for w in prior.parameters() if w.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=1e-4)
loader = shards("laion-sub", batch_size=16)
prior, optimizer, loader = accelerator.prepare(prior, optimizer, loader)

batches = endless(loader)
bar = tqdm(total=args.steps, disable=not accelerator.is_main_process)
global_step = 0
while global_step < args.steps:
    with accelerator.accumulate(prior):
        loss = prior(next(batches)).loss
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(trainable, args.clip)
            optimizer.step()
            plain = accelerator.unwrap_model(prior)
            if args.freeze and hasattr(plain.transformer.base_model, "update_and_allocate"):
                plain.transformer.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
            bar.update(1)
            bar.set_postfix(loss=f"{loss.item():.4f}")

accelerator.save_model(prior, "ckpt/prior-adapted")
