"""`adalora_core.peft`: PEFT's names behind a changed import, each in a fresh interpreter."""

from __future__ import annotations

import json
import textwrap

import pytest
from programs import output_of_python

NAMES = """
    import adalora_core.peft as ours, peft
    scope = {}
    exec("from adalora_core.peft import *", scope)
    answer(
        "names",
        ours.__all__ is peft.__all__,
        ours.__version__ == peft.__version__,
        all(getattr(ours, name) is getattr(peft, name) for name in peft.__all__),
        set(peft.__all__) <= set(dir(ours)),
        set(peft.__all__) <= set(scope),
        not hasattr(ours, "__wrapped__"),
        not hasattr(ours, "no_such_name"),
    )
"""
SUBMODULES = """
    from adalora_core.peft.utils import get_peft_model_state_dict
    from adalora_core.peft.tuners.adalora.layer import SVDLinear
    import adalora_core.peft.utils.hotswap as late
    import adalora_core.peft, peft, peft.utils.hotswap
    from peft.tuners.adalora.layer import SVDLinear as theirs
    answer(
        "submodules",
        SVDLinear is theirs,
        late is peft.utils.hotswap,
        adalora_core.peft.utils is peft.utils,
        peft.utils.__name__ == peft.utils.__spec__.name == "peft.utils",
        peft.utils.hotswap.__spec__.name == "peft.utils.hotswap",
    )
    try:
        import adalora_core.peft.nothing
    except ModuleNotFoundError as error:
        answer("missing", error.name == "adalora_core.peft.nothing")
"""
TRAINING = """
    from adalora_core.peft import AdaLoraConfig, TaskType, get_peft_model
    config = AdaLoraConfig(target_modules=["0"], init_r=4, target_r=4, total_step=3)
    model = get_peft_model(linear(), config)
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        loss = model(torch.ones(2, 4)).sum() + model.base_model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    answer("training", sum(config.rank_pattern["0.lora_E.default"]) == 4)
"""
START = """
    import json, sys, torch
    def linear():
        return torch.nn.Sequential(torch.nn.Linear(4, 4))
    def answer(*values):
        print(json.dumps(values))
"""


def answers(*parts: str) -> dict[str, list[bool]]:
    """Return what the parts of a script answer in one process: importing PEFT takes seconds."""
    script = "".join(map(textwrap.dedent, (START, *parts)))
    printed = output_of_python("-W", "error", "-W", "ignore::ImportWarning", "-c", script)
    found = [json.loads(line) for line in printed.splitlines()]
    return {name: values for name, *values in found}


@pytest.mark.slow
def test_names_and_submodules_are_those_of_peft_and_train_bridged() -> None:
    found = answers(NAMES, SUBMODULES, TRAINING)
    assert list(found) == ["names", "submodules", "missing", "training"]
    assert not {name: values for name, values in found.items() if not all(values)}


@pytest.mark.nightly
@pytest.mark.parametrize("first", ["import peft", "import adalora_core.peft"])
def test_submodules_are_those_of_peft_whatever_is_imported_first(first: str) -> None:
    found = answers(f"\n{first}\n", SUBMODULES, TRAINING)
    assert list(found) == ["submodules", "missing", "training"]
    assert not {name: values for name, values in found.items() if not all(values)}


def test_without_peft_the_extra_is_named() -> None:
    script = (
        "import importlib.metadata as metadata\n"
        "def missing(name):\n    raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = missing\n"
        "try:\n    import adalora_core.peft\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    assert output_of_python("-W", "error", "-c", script).startswith("MissingExtraError")
