"""Run a configuration with PEFT or with this package, and tell what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

from differential import bases
from differential.cases import Case

TOLERANCE = 5e-6
"""The difference of outputs that saving and loading may make."""

ALL_STEPS = 32
"""A run of more steps is trained at the steps where its schedule does something."""

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Outcome:
    """What a runtime did with a configuration.

    Attributes:
        stage: `runs`, or where the run failed: `construct`, `inject`, `start`, `step N`, `end`,
            `save`, `reload`, `load`.
        problem: what failed there, with the exception's message.
    """

    stage: str
    problem: str = ""

    @property
    def fails(self) -> bool:
        """Whether the configuration does not run."""
        return self.stage != "runs"


class Wrong(Exception):  # noqa: N818 - a result, not an error
    """The run did not raise, and its result is not what was asked for."""


def steps_of(config: Any) -> list[int]:
    """Return the steps to train: all of a short run, those around the phases of a long one."""
    if config.peft_type == "LORA":
        return [0, 1]
    total, tinit, tfinal, every = config.total_step, config.tinit, config.tfinal, config.deltaT
    if total <= ALL_STEPS:
        return list(range(int(total)))
    start = total - tfinal
    around = {0, 1, 2, tinit, tinit + 1, tinit + 2, start - 2, start - 1, start, start + 1}
    around |= {total - 2, total - 1}
    if every:
        first, last = tinit // every * every + every, (start - 1) // every * every
        around |= {first, first + every, last - every, last, last + 1, total // every * every}
        around.add((total - 1) // every * every)
    return sorted(int(step) for step in around if 0 <= step < total)


def train(model: Any, config: Any, batch: dict[str, torch.Tensor]) -> None:
    """Train as the documentation does, without gradients outside the trainable parameters."""
    with stage("start"):
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=3e-2)
        steps = steps_of(config)
    model.train()
    for step in steps:
        with stage(f"step {step}"):
            loss = model(**batch).loss
            loss.backward()
            if not torch.isfinite(loss):
                raise Wrong("the loss is not finite")
            optimizer.step()
            if hasattr(model.base_model, "update_and_allocate"):
                model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
    with stage("end"):
        require_an_adapter(model)


def require_an_adapter(model: Any) -> None:
    """Raise unless the adapter has finite numbers and keeps a triplet."""
    named = dict(model.named_parameters())
    singular = [value for name, value in named.items() if ".lora_E." in name]
    if not any("lora_" in name for name in named):
        raise Wrong("no module is adapted")
    if not all(torch.isfinite(value).all() for name, value in named.items() if "lora_" in name):
        raise Wrong("the adapter is not finite")
    if singular and not any(value.any() for value in singular):
        raise Wrong("every triplet is masked")


def outputs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a batch; the inputs decide them, not the labels."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        return model.eval()(**inputs).logits  # type: ignore[no-any-return]


def require_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Raise unless two outputs agree."""
    if not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        difference = (found - expected).abs().max().item()
        raise Wrong(f"the reloaded adapter has other outputs, by {difference:.2g}")


class _At(Exception):  # noqa: N818 - carries a result
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Name the part of the run that fails inside the block."""
    try:
        yield
    except _At:
        raise
    except Wrong as wrong:
        raise _At(Outcome(name, str(wrong))) from None
    except Exception as error:  # noqa: BLE001 - every error is the result
        message = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {message[0][:200] if message else ''}"
        raise _At(Outcome(name, text)) from None


def outcome_of(run: Callable[[], None], state: int = 0) -> Outcome:
    """Return what a run does, without its warnings, from a fixed random state."""
    torch.manual_seed(state)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    except _At as at:
        return at.outcome
    finally:
        logging.disable(before)
    return Outcome("runs")


# --- saved adapters -------------------------------------------------------------------------------

TRAINED = {
    "pruned": {"tinit": 1, "tfinal": 2, "total_step": 8, "init_r": 4, "target_r": 2},
    "unpruned": {"tinit": 20, "tfinal": 2, "total_step": 90, "init_r": 4, "target_r": 2},
}
"""Schedules of the saved adapters; the second is saved during its warm-up."""


@dataclass(frozen=True)
class Saved:
    """A trained adapter of PEFT: its configuration, its tensors and the outputs of its model."""

    values: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    logits: torch.Tensor


@cache
def saved(base: str, name: str) -> Saved:
    """Return an adapter that PEFT has trained and saved."""
    import peft

    kind = bases.BASES[base]
    settings = TRAINED[name] | {"target_modules": list(kind.targets), "lora_alpha": 8}
    made: dict[str, Any] = {}

    def run() -> None:
        config = peft.AdaLoraConfig(**settings, task_type=kind.task)
        model = peft.get_peft_model(bases.fresh(base), config)
        batch = kind.batch()
        if name == "unpruned":
            config.total_step = 6
            config.tfinal = 0
        train(model, config, batch)
        if name == "unpruned":
            config.total_step, config.tfinal = settings["total_step"], settings["tfinal"]
        with tempfile.TemporaryDirectory() as folder, without_card():
            model.save_pretrained(folder)
            made["values"] = json.loads(Path(folder, CONFIG).read_text("utf-8"))
            made["tensors"] = load_file(Path(folder, WEIGHTS))
        made["logits"] = outputs(model, batch)

    found = outcome_of(run)
    assert not found.fails, found
    return Saved(**made)


def without_card() -> contextlib.AbstractContextManager[Any]:
    """Leave the model card out of a saved folder: nothing reads it, and it takes half the time."""
    return mock.patch("peft.PeftModel.create_or_update_model_card")


def write_adapter(case: Case, folder: str) -> Saved:
    """Write the folder of a saved adapter with the case's configuration."""
    adapter = saved(case.base, case.adapter)
    Path(folder, CONFIG).write_text(case.text, "utf-8")
    save_file(adapter.tensors, Path(folder, WEIGHTS), {"format": "pt"})
    return adapter


def expected(case: Case, adapter: Saved) -> torch.Tensor:
    """Return the outputs of the model that was trained with the case's `lora_alpha`."""
    alpha, rank = case.values.get("lora_alpha", 8), adapter.values["init_r"]
    if "lora_alpha" not in case.fields or not isinstance(alpha, (int, float)):
        return adapter.logits
    import peft

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG).write_text(json.dumps(adapter.values), "utf-8")
        save_file(adapter.tensors, Path(folder, WEIGHTS), {"format": "pt"})
        model = peft.PeftModel.from_pretrained(bases.fresh(case.base), folder)
    for layer in model.modules():
        if isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling["default"] = alpha if alpha > 0 else float(rank)
    return outputs(model, bases.BASES[case.base].batch())
