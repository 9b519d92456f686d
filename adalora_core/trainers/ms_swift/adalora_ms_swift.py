"""Train `tuner_type: adalora` of ms-swift with this package: the file for `--external_plugins`.

The settings stay ms-swift's own: `adalora_init_r`, `adalora_target_r`, `lora_alpha` and the like.
"""

from __future__ import annotations

from typing import Any

from swift.callbacks.base import TrainerCallback
from swift.callbacks.mapping import callbacks_map
from swift.pipelines.train.tuner import get_modules_to_save, get_target_modules
from swift.tuner_plugin import PeftTuner, tuners_map
from torch import nn

from adalora_core.bridge.attaching import adapted, checked_config, loaded
from adalora_core.config.fields.table import ADALORA_FIELDS
from adalora_core.trainers.transformers import AdaLoraCallback

_TASKS = {
    "EMBEDDING": None,
    "RERANKER": "SEQ_CLS",
    "GENERATIVE_RERANKER": "CAUSAL_LM",
    "DECISION": "CAUSAL_LM",
}
"""What ms-swift gives PEFT for tasks that PEFT does not know."""


class AdaLoraTuner(PeftTuner):
    """Make the model, and load it to resume or to infer."""

    @staticmethod
    def prepare_model(args: Any, model: nn.Module) -> nn.Module:
        """Return `model` with a new adapter of the settings in `args`."""
        task_type = args.task_type.upper()
        task_of_peft = _TASKS.get(task_type, task_type)
        own = {name: f"adalora_{name}" for name in ADALORA_FIELDS}
        given = {name: getattr(args, key) for name, key in own.items() if hasattr(args, key)}
        config = checked_config(
            task_type=task_of_peft,
            target_modules=get_target_modules(args, model),
            modules_to_save=get_modules_to_save(args, model, task_type) or None,
            lora_alpha=args.lora_alpha,
            lora_dropout=args.lora_dropout,
            bias=args.lora_bias,
            use_rslora=args.use_rslora,
            use_dora=args.use_dora,
            init_lora_weights=args.init_weights,
            **given,
        )
        return adapted(model, config)

    @staticmethod
    def from_pretrained(model: nn.Module, model_id: str, **options: Any) -> nn.Module:
        """Return `model` with the adapter in the folder `model_id`."""
        return loaded(model, model_id, **options)


class AddAdaLoraCallback(TrainerCallback):
    """Add the callback that allocates once there is a whole trainer."""

    def on_init_end(self, *_: Any, **__: Any) -> None:
        """Add `AdaLoraCallback`, and with it the penalty of losses that ignore the model's."""
        AdaLoraCallback().add_to(self.trainer)


tuners_map["adalora"] = AdaLoraTuner
callbacks_map["adalora"] = AddAdaLoraCallback
