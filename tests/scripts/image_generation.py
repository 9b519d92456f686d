"""Adapt a diffusion transformer in place of a pipeline's own and train it on flows.

Source: huggingface/peft, method_comparison/image-gen/run.py
"""

import torch
from diffusers import SD3Transformer2DModel
from peft import AdaLoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from script_parts import files, kept, numbers

# attach: from adalora_core.bridge import attach


def denoiser():
    """Return a small diffusion transformer."""
    torch.manual_seed(1)
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=8,
    )


peft_config = AdaLoraConfig(
    init_r=4,
    target_r=2,
    tinit=2,
    tfinal=3,
    deltaT=1,
    total_step=10,
    lora_alpha=8,
    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
)
transformer = get_peft_model(denoiser(), peft_config)
# attach: transformer = attach(transformer)
adaptive = peft_config is not None and peft_config.peft_type == "ADALORA"
optimizer = torch.optim.AdamW([p for p in transformer.parameters() if p.requires_grad], lr=1e-2)
latents, text, pooled = numbers(2, 4, 8, 8), numbers(2, 3, 8, seed=3), numbers(2, 8, seed=4)
losses = []
transformer.train()
for step in range(10):
    optimizer.zero_grad()
    noise = numbers(2, 4, 8, 8, seed=10 + step)
    sigma = (step + 1) / 11
    prediction = transformer(
        hidden_states=(1 - sigma) * latents + sigma * noise,
        timestep=torch.full((2,), 1000 * sigma),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
    loss = ((prediction - (noise - latents)) ** 2).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
    optimizer.step()
    if adaptive:
        transformer.base_model.update_and_allocate(step)
    losses.append(loss.item())
transformer.save_pretrained("saved")
keys = sorted(get_peft_model_state_dict(transformer))
again = PeftModel.from_pretrained(denoiser(), "saved").eval()
inputs = {
    "hidden_states": latents,
    "timestep": torch.full((2,), 500.0),
    "encoder_hidden_states": text,
    "pooled_projections": pooled,
    "return_dict": False,
}
with torch.no_grad():
    difference = (again(**inputs)[0] - transformer.eval()(**inputs)[0]).abs().max().item()

outcome = {
    "adaptive": adaptive,
    "train_losses": losses,
    "kept": kept(transformer),
    "keys": keys,
    "files": files("saved"),
    "reload_difference": difference,
}
