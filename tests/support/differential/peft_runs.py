"""Run a configuration with PEFT, as a file that PEFT reads."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import peft

from differential import bases, outcomes
from differential.cases import Case
from differential.outcomes import CONFIG, Outcome, Wrong, outputs, stage


def run(case: Case, state: int = 0) -> Outcome:
    """Return what PEFT does with a case, from a random state."""
    runs = {"training": _trained, "adapter": _loaded}
    return outcomes.outcome_of(lambda: runs[case.kind](case), state)


def _trained(case: Case) -> None:
    batch = bases.BASES[case.base].batch()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG).write_text(case.text, "utf-8")
        with stage("construct"):
            owner = peft.LoraConfig if case.is_lora else peft.AdaLoraConfig
            config = owner.from_pretrained(folder)
            if type(config) is not owner:
                raise Wrong(f"{type(config).__name__} is built")
    with stage("inject"):
        model = peft.get_peft_model(bases.fresh(case.base), config)
    outcomes.train(model, config, batch)
    with tempfile.TemporaryDirectory() as folder:
        with stage("save"), outcomes.without_card():
            expected = outputs(model, batch)
            model.save_pretrained(folder)
        with stage("reload"):
            reloaded = peft.PeftModel.from_pretrained(bases.fresh(case.base), folder)
            outcomes.require_equal(outputs(reloaded, batch), expected)


def _loaded(case: Case) -> None:
    batch = bases.BASES[case.base].batch()
    with tempfile.TemporaryDirectory() as folder, stage("load"):
        adapter = outcomes.write_adapter(case, folder)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")
            model = peft.PeftModel.from_pretrained(bases.fresh(case.base), folder)
        if not isinstance(model.base_model, peft.AdaLoraModel):
            raise Wrong(f"{type(model.base_model).__name__} is built")
        outcomes.require_an_adapter(model)
        outcomes.require_equal(outputs(model, batch), outcomes.expected(case, adapter))
