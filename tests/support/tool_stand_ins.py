"""What the plugins use of axolotl, LLaMA-Factory and ms-swift: the same names and signatures.

`test_the_stand_in_is_true` of each plugin compares them with the tool, where it is installed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import TrainerCallback as TransformersCallback


@dataclass(frozen=True)
class AdapterCapabilities:
    """As axolotl's."""

    name: str
    lora_like: bool = False
    relora: bool = False


class BasePlugin:
    """As axolotl's, with the methods that the plugin overrides."""

    def get_input_args(self) -> str | None: ...
    def get_adapter_capabilities(self) -> list[AdapterCapabilities]: ...
    def load_adapter(
        self, model: Any, cfg: Any, inference: bool = False, config_only: bool = False
    ) -> Any: ...
    def post_trainer_create(self, cfg: Any, trainer: Any) -> None: ...


class TrainerCallback(TransformersCallback):
    """As ms-swift's."""

    def __init__(self, args: Any, trainer: Any) -> None:
        self.args = args
        self.trainer = trainer


class PeftTuner:
    """As ms-swift's."""

    @staticmethod
    def prepare_model(args: Any, model: Any) -> Any: ...
    @staticmethod
    def save_pretrained(
        model: Any,
        save_directory: str,
        state_dict: Any = None,
        safe_serialization: bool = True,
        **kwargs: Any,
    ) -> None: ...
    @staticmethod
    def from_pretrained(model: Any, model_id: str, **kwargs: Any) -> Any: ...


def get_target_modules(args: Any, model: Any) -> Any:
    """As ms-swift's, without its words."""
    del model
    return args.target_modules


def get_modules_to_save(args: Any, model: Any, task_type: str | None = None) -> list[str]:
    """As ms-swift's, without its words."""
    del model, task_type
    return list(args.modules_to_save)


class PeftPlugin:
    """As LLaMA-Factory's."""

    registry: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self, name: str | None = None) -> None:
        self.name = str(name)

    def __call__(self, model: Any, config: dict[str, Any], is_train: bool) -> Any:
        return self.registry[self.name](model, config, is_train)

    def register(self, method_name: str = "__call__") -> Callable[..., Any]:
        del method_name
        return lambda function: self.registry.setdefault(self.name, function)


class SFTTrainer:
    """LLaMA-Factory's trainer, as far as the plugin sees it; `train_dataset` are batches."""

    def __init__(
        self, args: Any, model: Any, renderer: Any, train_dataset: Any, callbacks: Any = None
    ) -> None:
        del renderer, callbacks
        self.args, self.model, self._batches = args, model, train_dataset
        self.num_training_steps = len(train_dataset)
        self.optimizer = torch.optim.AdamW(
            [each for each in model.parameters() if each.requires_grad], lr=1e-2
        )

    def compute_loss(self, batch: Any) -> torch.Tensor:
        """Compute the loss from the logits, as LLaMA-Factory does."""
        logits = self.model(**batch).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.mT, batch["labels"][:, 1:])

    def fit(self) -> None:
        """Train."""
        self.model.train()
        for batch in self._batches:
            self.compute_loss(batch).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def run_sft(args: Any = None) -> None:
    """As LLaMA-Factory's."""


def _load_standard_training_states(
    ckpt_dir: str, model: Any, optimizer: Any, map_location: Any
) -> None:
    """As LLaMA-Factory's."""


STAND_INS: dict[str, dict[str, Any]] = {
    "axolotl.integrations.base": {
        "AdapterCapabilities": AdapterCapabilities,
        "BasePlugin": BasePlugin,
    },
    "llamafactory.v1.core.utils.checkpoint": {
        "_load_standard_training_states": _load_standard_training_states
    },
    "llamafactory.v1.plugins.model_plugins.peft": {"PeftPlugin": PeftPlugin},
    "llamafactory.v1.trainers.sft_trainer": {"SFTTrainer": SFTTrainer, "run_sft": run_sft},
    "swift.callbacks.base": {"TrainerCallback": TrainerCallback},
    "swift.callbacks.mapping": {"callbacks_map": {"adalora": None}},
    "swift.pipelines.train.tuner": {
        "get_modules_to_save": get_modules_to_save,
        "get_target_modules": get_target_modules,
    },
    "swift.tuner_plugin": {"PeftTuner": PeftTuner, "tuners_map": {}},
}


def stand_in(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins of a tool in the place of its modules."""
    for path in [each for each in sys.modules if each.partition(".")[0] == tool]:
        monkeypatch.delitem(sys.modules, path)
    for path, members in STAND_INS.items():
        parent: Any = SimpleNamespace()
        names = path.split(".") if path.partition(".")[0] == tool else []
        for count, name in enumerate(names, 1):
            full = ".".join(names[:count])
            module = sys.modules.get(full) or ModuleType(full)
            monkeypatch.setitem(sys.modules, full, module)
            setattr(parent, name, module)
            parent = module
        for name, member in members.items() if names else ():
            setattr(parent, name, dict(member) if isinstance(member, dict) else member)


def differences(tool: str) -> list[str]:
    """Return what of the stand-ins of a tool is otherwise in the tool that is installed."""
    found = []
    for path, members in STAND_INS.items():
        if path.partition(".")[0] != tool:
            continue
        for name, ours in members.items():
            theirs = getattr(import_module(path), name, None)
            found += [f"{path}.{name}: {each}" for each in _differing(ours, theirs)]
    return found


def _differing(ours: Any, theirs: Any) -> list[str]:
    if isinstance(ours, dict):
        return [] if ours.keys() <= getattr(theirs, "keys", set)() else ["keys are missing"]
    pairs = {"": (ours, theirs)}
    if inspect.isclass(ours):
        names = [name for name in vars(ours) if name == "__init__" or not name.startswith("_")]
        pairs = {name: (getattr(ours, name), getattr(theirs, name, None)) for name in names}
    return [
        f"{name}{_parameters(real)} and not {_parameters(own)}"
        for name, (own, real) in pairs.items()
        if callable(own) and _parameters(own) != _parameters(real)
    ]


def _parameters(function: Any) -> Any:
    if not callable(function):
        return "absent"
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind.name, each.default is each.empty) for each in parameters]


def refused_parameters(plugin: type, base: type) -> list[str]:
    """Return the methods of a plugin that cannot be called as those of its base class."""
    return [
        name
        for name in vars(plugin).keys() & vars(base).keys()
        if not name.startswith("__")
        if callable(getattr(base, name))
        if not _accepts(getattr(plugin, name), getattr(base, name))
    ]


def _accepts(ours: Any, theirs: Any) -> bool:
    needed = inspect.signature(theirs).parameters.values()
    named = {each.name: each for each in needed if each.kind is not each.VAR_KEYWORD}
    given = [name for name, each in named.items() if each.default is each.empty]
    keywords = dict.fromkeys(named.keys() - set(given))
    try:
        inspect.signature(ours).bind(*given, **keywords)
        inspect.signature(ours).bind(**dict.fromkeys(named))
    except TypeError:
        return False
    return True
