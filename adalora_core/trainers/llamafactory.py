"""Train AdaLoRA in LLaMA-Factory v1, which loads no plugin of others and is started from here.

    python -m adalora_core.trainers.llamafactory run.yaml

In the YAML, `peft_config` holds `name: adalora` and the fields of `AdaLoraConfig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from llamafactory.v1.core.utils import checkpoint
from llamafactory.v1.plugins.model_plugins.peft import PeftPlugin
from llamafactory.v1.trainers import sft_trainer
from torch import nn

from adalora_core.bridge.attaching import adapted, checked_config, loaded
from adalora_core.floor.errors import ParallelismError
from adalora_core.trainers.optimizer_hook import allocate_on_step, bind_total_step
from adalora_core.training.host import host_of, unwrapped


@PeftPlugin("adalora").register()
def adalora_model(model: nn.Module, config: dict[str, Any], is_train: bool = False) -> nn.Module:
    """Return `model` with a new adapter, or with that of `adapter_name_or_path`."""
    fields = {"task_type": "CAUSAL_LM"} | config
    del fields["name"]
    folder = fields.pop("adapter_name_or_path", None)
    if folder is not None:
        return loaded(model, folder, is_trainable=is_train)
    return adapted(model, checked_config(**fields))


class AdaLoraSFTTrainer(sft_trainer.SFTTrainer):
    """LLaMA-Factory's trainer with the penalty and an allocation after every optimizer step."""

    def __init__(self, args: Any, **options: Any) -> None:
        if args.dist_config is not None:
            raise ParallelismError(
                "adalora_core.trainers.llamafactory: expected one process or DDP, got the "
                f"dist_config {args.dist_config.name!r}; leave dist_config out"
            )
        super().__init__(args, **options)
        self._host = host_of(self.model, "adalora_core.trainers.llamafactory")

    def compute_loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of the batch, which ignores the model's own, and the penalty."""
        loss: torch.Tensor = super().compute_loss(batch)
        return loss + self._host.orthogonality_penalty()

    def fit(self) -> None:
        """Train; the ranks are final afterwards."""
        bind_total_step(self._host, self.num_training_steps, "LLaMA-Factory")
        hook = allocate_on_step(self.optimizer, self.model)
        super().fit()
        hook.remove()
        self._host.finalize()


def load_states(
    folder: str, model: object, optimizer: torch.optim.Optimizer, map_location: torch.device
) -> None:
    """Load what a checkpoint of LLaMA-Factory holds, with the training state of the adapter."""
    inner: Any = unwrapped(model)
    inner.load_adapter(str(Path(folder, "model")), "default", is_trainable=True)
    states = Path(folder, "optimizer", "state_dict.pt")
    optimizer.load_state_dict(torch.load(states, map_location=map_location, weights_only=True))


def main() -> None:
    """Run LLaMA-Factory's supervised training with the YAML and options of the command line."""
    checkpoint._load_standard_training_states = load_states  # noqa: SLF001 - no other hook
    sft_trainer.SFTTrainer = AdaLoraSFTTrainer
    sft_trainer.run_sft()


if __name__ == "__main__":
    main()
