import torch
from torch import distributed
from transformers import LlamaConfig, LlamaForCausalLM

import adalora_core

STEPS = 30
BATCH = 8
TOKENS = torch.randint(64, (STEPS * BATCH, 12), generator=torch.Generator().manual_seed(0))
SEQUENCES = [{"input_ids": each, "labels": each} for each in TOKENS]


def adapted(library=adalora_core):
    torch.manual_seed(0)  # the same model on every process
    size = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    config = library.AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"],
        init_r=6,
        target_r=3,
        tinit=4,
        tfinal=6,
        total_step=STEPS,
    )
    return library.get_peft_model(LlamaForCausalLM(size), config)


def batch(step):
    """Return this process's part of the global batch."""
    rows = TOKENS[step * BATCH : (step + 1) * BATCH]
    mine = rows[distributed.get_rank() :: distributed.get_world_size()]
    return {"input_ids": mine, "labels": mine}
