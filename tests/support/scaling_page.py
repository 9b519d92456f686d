"""Run the Python blocks of docs/scaling.md in a process group, each on a model of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from adalora_runs import SETTINGS
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from toy_models import tiny_llama, token_batch

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.integrations.distributed import AdapterState, factor_placement

LLAMA = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}


def run_blocks(
    rank: int, world: int, ddp: str, shard: str, place: str, save: str, folder: str
) -> int:
    """Run the four blocks; return how many steps the first one took."""
    del rank
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "torch": torch,
        "dcp": dcp,
        "get_optimizer_state_dict": get_optimizer_state_dict,
        "fully_shard": fully_shard,
        "DistributedDataParallel": DistributedDataParallel,
        "get_peft_model": get_peft_model,
        "AdapterState": AdapterState,
        "factor_placement": factor_placement,
        "mesh": init_device_mesh("cpu", (world,)),
        "config": AdaLoraConfig(**{**SETTINGS, **LLAMA}),
        "batches": [token_batch(step) for step in range(3)],
        "folder": folder,
    }
    names["base"] = tiny_llama()
    exec(ddp, names)  # noqa: S102 - the page's own code, here and below
    names["base"] = tiny_llama()
    names["blocks"] = names["base"].model.layers
    exec(shard, names)  # noqa: S102
    names["wrapped"] = names["model"]
    names["model"](**token_batch(0)).loss.backward()
    names["optimizer"].step()
    exec(save, names)  # noqa: S102
    names["model"] = get_peft_model(tiny_llama(), names["config"])
    names["block"] = names["model"].base_model.model.model.layers[0]
    exec(place, names)  # noqa: S102
    return int(names["step"]) + 1
