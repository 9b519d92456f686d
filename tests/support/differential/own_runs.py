"""Run a configuration with this package while its contract is switched off."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.config.fields.block import AUTO
from adalora_core.config.fields.readings import exact, reading_of
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.fields.value_kinds import wrong_at
from adalora_core.training.adapter import written_values
from differential import bases, outcomes
from differential.cases import Case
from differential.outcomes import Outcome, Wrong, outputs, stage

STEPS_BETWEEN = 8
"""Steps of the budgeting phase if `total_step` is left to the trainer."""

_CHECKS = {
    "config_of": ("adapter", "adapter_file.folder"),
    "read_config": ("adapter_file.folder",),
    "checked_copy": ("adapter", "saving"),
    "check_in_place": ("model",),
}
"""Functions that apply the contract, and the modules of `training` that call them."""


def run(case: Case, state: int = 0) -> Outcome:
    """Return what this package does with a case, from a random state."""
    runs = {"training": _trained, "adapter": _loaded}

    def unchecked() -> None:
        with _without_contract():
            runs[case.kind](case)

    return outcomes.outcome_of(unchecked, state)


def _trained(case: Case) -> None:
    batch = bases.BASES[case.base].batch()
    with stage("construct"):
        config = _unchecked(json.loads(case.text))
    with stage("inject"):
        model = get_peft_model(bases.fresh(case.base), config)
        if config.total_step == AUTO:  # Trainer's callback does this
            model.bind_total_step(config.tinit + config.tfinal + STEPS_BETWEEN)
            config = model.peft_config["default"]
    outcomes.train(model, config, batch)
    with tempfile.TemporaryDirectory() as folder:
        with stage("save"):
            model.base_model.finalize()
            expected = outputs(model, batch)
            model.save_pretrained(folder)
        with stage("reload"):
            reloaded = AdaLoraModel.from_pretrained(bases.fresh(case.base), folder)
            outcomes.require_equal(outputs(reloaded, batch), expected)


def _loaded(case: Case) -> None:
    batch = bases.BASES[case.base].batch()
    with tempfile.TemporaryDirectory() as folder, stage("load"):
        adapter = outcomes.write_adapter(case, folder)
        model = AdaLoraModel.from_pretrained(bases.fresh(case.base), folder)
        outcomes.require_an_adapter(model)
        outcomes.require_equal(outputs(model, batch), outcomes.expected(case, adapter))


def _unchecked(source: Any) -> AdaLoraConfig:
    """Return a configuration of values that nothing has checked, as the contract hands it on."""
    values: Mapping[str, Any] = source
    if isinstance(source, Path):
        values = json.loads(source.read_text("utf-8"))
    elif not isinstance(source, dict):
        values = written_values(source)
    if values.get("peft_type", "ADALORA") != "ADALORA":
        raise Wrong("another method")
    known = {name: _taken(name, value, values) for name, value in values.items() if name in FIELDS}
    return AdaLoraConfig.model_construct(**known)


def _taken(name: str, value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value as the typed model stores it, or as it is where the model refuses it."""
    field = FIELDS[name]
    if wrong_at(field.kinds, value) is None:
        return exact(value, name)
    reading = reading_of(field, value, values, "adalora-core")
    return value if reading is None else reading.value


@contextlib.contextmanager
def _without_contract() -> Iterator[None]:
    replacements = {
        "config_of": _unchecked,
        "read_config": _unchecked,
        "checked_copy": _unchecked,
        "check_in_place": lambda config: config,
    }
    with contextlib.ExitStack() as stack:
        for function, homes in _CHECKS.items():
            for home in homes:
                place = f"adalora_core.training.{home}.{function}"
                stack.enter_context(mock.patch(place, replacements[function]))
        # An assignment checks the value against its field.
        set_it = lambda config, name, value: config.__dict__.__setitem__(name, value)  # noqa: E731
        stack.enter_context(mock.patch.object(AdaLoraConfig, "__setattr__", set_it))
        yield
