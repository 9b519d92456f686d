"""`adalora_core.peft`: PEFT's names behind a changed import, each in a fresh interpreter."""

from __future__ import annotations

import pytest
from programs import output_of_python


def printed(script: str) -> list[str]:
    return output_of_python("-W", "error", "-W", "ignore::ImportWarning", "-c", script).split()


def test_every_public_name_is_the_object_of_peft() -> None:
    script = (
        "import adalora_core.peft as ours, peft\n"
        "print(ours.__all__ is peft.__all__, ours.__version__ == peft.__version__)\n"
        "print(all(getattr(ours, name) is getattr(peft, name) for name in peft.__all__))\n"
        "print(set(peft.__all__) <= set(dir(ours)))\n"
        "scope = {}\n"
        "exec('from adalora_core.peft import *', scope)\n"
        "print(set(peft.__all__) <= set(scope))\n"
        "print(hasattr(ours, '__wrapped__'), hasattr(ours, 'no_such_name'))\n"
    )
    assert printed(script) == [*["True"] * 5, "False", "False"]


@pytest.mark.parametrize("first", ["import peft", "import adalora_core.peft"])
def test_submodules_are_those_of_peft_and_no_copies(first: str) -> None:
    script = (
        f"{first}\n"
        "from adalora_core.peft.utils import get_peft_model_state_dict\n"
        "from adalora_core.peft.tuners.adalora.layer import SVDLinear\n"
        "import adalora_core.peft.utils.hotswap as late\n"
        "import adalora_core.peft, peft, peft.utils.hotswap\n"
        "from peft.tuners.adalora.layer import SVDLinear as theirs\n"
        "print(SVDLinear is theirs, late is peft.utils.hotswap)\n"
        "print(adalora_core.peft.utils is peft.utils, peft.utils.__name__)\n"
        "print(peft.utils.__spec__.name, peft.utils.hotswap.__spec__.name)\n"
    )
    assert printed(script) == [*["True"] * 3, *["peft.utils"] * 2, "peft.utils.hotswap"]


def test_submodule_that_peft_does_not_have_is_named() -> None:
    script = (
        "try:\n    import adalora_core.peft.nothing\n"
        "except ModuleNotFoundError as error:\n    print(error.name)\n"
    )
    assert printed(script) == ["adalora_core.peft.nothing"]


def test_a_script_with_the_changed_import_trains_bridged() -> None:
    script = (
        "import torch\n"
        "from adalora_core.peft import AdaLoraConfig, TaskType, get_peft_model\n"
        "config = AdaLoraConfig(target_modules=['0'], init_r=4, target_r=4, total_step=3)\n"
        "model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "for step in range(3):\n"
        "    loss = model(torch.ones(2, 4)).sum() + model.base_model.orthogonality_penalty()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        "    model.base_model.update_and_allocate(step)\n"
        "    optimizer.zero_grad()\n"
        "print(sum(config.rank_pattern['0.lora_E.default']))\n"
    )
    assert printed(script) == ["4"]


def test_without_peft_the_extra_is_named() -> None:
    script = (
        "import importlib.metadata as metadata\n"
        "def missing(name):\n    raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = missing\n"
        "try:\n    import adalora_core.peft\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    assert printed(script)[0] == "MissingExtraError"
