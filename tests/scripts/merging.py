"""Train, merge safely, unmerge, merge for good and save the merged model.

Source: philipprhrd/quantization-adalora-speech-recognition, scripts/merge_adapter.py
"""

import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from script_parts import files, kept, numbers, saved_base, token_rows
from transformers import AutoModelForSpeechSeq2Seq

# attach: from adalora_core.bridge import attach

path = saved_base("WhisperForConditionalGeneration")
config = AdaLoraConfig(
    task_type=TaskType.SEQ_2_SEQ_LM,
    target_modules=["q_proj", "k_proj", "v_proj", "out_proj"],
    modules_to_save=["embed_tokens", "lm_head"],
    lora_alpha=16,
    lora_dropout=0.0,
    init_r=6,
    target_r=3,
    tinit=1,
    tfinal=4,
    deltaT=1,
    beta1=0.85,
    beta2=0.85,
    total_step=10,
)
base = AutoModelForSpeechSeq2Seq.from_pretrained(path, dtype=torch.float32)
model = get_peft_model(base, config)
# attach: model = attach(model)
audio = model.base_model.model
forward = audio.forward


def without_text_inputs(*args, **kwargs):
    """Drop the arguments that PEFT passes for text models."""
    for name in ("input_ids", "inputs_embeds", "num_items_in_batch"):
        kwargs.pop(name, None)
    return forward(*args, **kwargs)


audio.forward = without_text_inputs
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
sounds, texts = numbers(8, 4, 16), token_rows(8, 5)
losses = []
model.train()
for step in range(10):
    loss = model(input_features=sounds, labels=texts).loss
    losses.append(loss.item())
    loss.backward()
    optimizer.step()
    model.base_model.update_and_allocate(step)
    optimizer.zero_grad()
model.save_pretrained("adapter")
model.eval()
inputs = {"input_features": sounds, "decoder_input_ids": texts}
with torch.no_grad():
    before = audio(**inputs).logits
    model.merge_adapter(safe_merge=True)
    merged = audio(**inputs).logits
    model.unmerge_adapter()
    unmerged = audio(**inputs).logits

base = AutoModelForSpeechSeq2Seq.from_pretrained(path, dtype=torch.float32)
loaded = PeftModel.from_pretrained(base, "adapter")
final = loaded.merge_and_unload()
final.save_pretrained("merged")
with torch.no_grad():
    after = final.eval()(**inputs).logits

outcome = {
    "train_losses": losses,
    "kept": kept(model),
    "files": files("adapter"),
    "merged": (before - merged).abs().max().item(),
    "unmerged": (before - unmerged).abs().max().item(),
    "final_class": type(final).__name__,
    "final": (before - after).abs().max().item(),
    "merged_files": files("merged"),
}
