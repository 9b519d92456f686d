#!/usr/bin/env python
"""Answer prompts from a file with a finished AdaLoRA adapter (no training here)."""
import argparse
import json
import sys

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(adapter_dir, merge):
    cfg = PeftConfig.from_pretrained(adapter_dir)
    print(f"{cfg.peft_type} adapter for {cfg.base_model_name_or_path}", file=sys.stderr)
    base = AutoModelForCausalLM.from_pretrained(cfg.base_model_name_or_path, torch_dtype=torch.float16)
    model = PeftModel.from_pretrained(base, adapter_dir)
    if merge:
        model = model.merge_and_unload()
    tok = AutoTokenizer.from_pretrained(cfg.base_model_name_or_path, padding_side="left")
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    return model.to("cuda").eval(), tok


@torch.inference_mode()
def generate(model, tok, prompts, max_new):
    enc = tok(prompts, return_tensors="pt", padding=True).to("cuda")
    out = model.generate(**enc, max_new_tokens=max_new, do_sample=False, pad_token_id=tok.pad_token_id)
    return tok.batch_decode(out[:, enc["input_ids"].shape[1]:], skip_special_tokens=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("adapter")
    ap.add_argument("prompts", help="jsonl with a 'prompt' field")
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--max-new", type=int, default=128)
    ap.add_argument("--no-merge", action="store_true")
    a = ap.parse_args()
    with open(a.prompts) as fh:
        rows = [json.loads(line)["prompt"] for line in fh]
    model, tok = load(a.adapter, not a.no_merge)
    for i in range(0, len(rows), a.batch):
        chunk = rows[i:i + a.batch]
        for p, r in zip(chunk, generate(model, tok, chunk, a.max_new)):
            print(json.dumps({"prompt": p, "answer": r}))


if __name__ == "__main__":
    main()
