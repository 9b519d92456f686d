"""The bridge where ms-swift has replaced PEFT's methods, before or after `install()`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import TARGET_BUDGET, end_step, final_ranks, make, optimizer_of
from ms_swift_patch import adalora_forward, patch_peft
from peft.tuners.adalora import AdaLoraModel
from programs import output_of_python
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from toy_models import tiny_llama, token_batch

from adalora_core.bridge import attach, install, uninstall
from adalora_core.bridge.tuner import TunerOverrides
from adalora_core.bridge.versions import require_supported_peft

if TYPE_CHECKING:
    Patch = Callable[[], None]


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patch]:
    """Replace methods as an import of ms-swift does; afterwards all are PEFT's again."""

    def remember(cls: type, name: str, _: Any) -> None:
        monkeypatch.setattr(cls, name, getattr(cls, name, None), raising=False)

    patch_peft(remember)
    yield patch_peft
    uninstall()


STEPS_UNDER_DDP = 6


def fresh() -> Any:
    torch.manual_seed(7)
    settings = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
    return make("peft", tiny_llama(), **settings)


def run(model: Any) -> tuple[list[float], list[int]]:
    """Return the losses of a training and the ranks at its end."""
    optimizer, losses = optimizer_of(model), []
    for step in range(30):
        loss = model.train()(**token_batch(step)).loss
        loss.backward()
        end_step(model, optimizer, step)
        losses.append(float(loss.detach()))
    return losses, final_ranks(model)


def patch_then_install(patch: Patch) -> Any:
    patch()
    require_supported_peft()  # what an import of the bridge asks
    install()
    return fresh()


def install_then_patch(patch: Patch) -> Any:
    install()
    patch()
    return fresh()


def patch_then_attach(patch: Patch) -> Any:
    patch()
    return attach(fresh())


@pytest.mark.parametrize("way", [patch_then_install, install_then_patch, patch_then_attach])
def test_a_run_is_that_of_peft_with_the_patch(way: Callable[[Patch], Any], patch: Patch) -> None:
    model = way(patch)
    assert type(model.base_model).forward is TunerOverrides.forward
    ours = run(model)
    uninstall()
    assert AdaLoraModel.forward is adalora_forward
    theirs = run(fresh())
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    assert ours[1] == theirs[1]
    assert sum(ours[1]) == 2 * TARGET_BUDGET


@pytest.mark.filterwarnings("ignore:.*find_unused_parameters")
def test_under_ddp_where_its_callback_is_not_called_the_package_allocates(patch: Patch) -> None:
    model = install_then_patch(patch)
    clear, optimizer = model.zero_grad, optimizer_of(model)
    # As its callback does; a trainer calls the method of the wrapper.
    model.zero_grad = lambda: (model.update_and_allocate(0), clear())
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        train_wrapped(DistributedDataParallel(model), optimizer)
    finally:
        distributed.destroy_process_group()
    report = model.base_model.run_report()
    assert report.steps == STEPS_UNDER_DDP
    assert "from step 3 of 30 on" in report.automatic


def train_wrapped(model: Any, optimizer: torch.optim.Optimizer) -> None:
    for step in range(STEPS_UNDER_DDP):
        model(**token_batch(step)).loss.backward()
        optimizer.step()
        model.zero_grad()


SAME = """
import sys
sys.path += {paths}
import torch
import ms_swift_patch as ours  # before the package, while the methods are PEFT's
import swift.tuners.peft as package
from peft import AdaLoraConfig, get_peft_model
from peft.tuners.adalora import AdaLoraModel, RankAllocator
from toy_models import tiny_llama, token_batch

for name in ("adalora_forward", "adalora_mask_to_budget"):
    assert getattr(ours, name).__globals__["__name__"] == package.__name__, name
    assert hasattr(package, name), name

def trained(forward, mask_to_budget):
    AdaLoraModel.forward, RankAllocator.mask_to_budget = forward, mask_to_budget
    torch.manual_seed(0)
    config = AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_r=6, target_r=3,
                           tinit=2, tfinal=4, total_step=12)
    model = get_peft_model(tiny_llama(), config)
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for step in range(12):
        loss = model(**token_batch(step)).loss
        loss.backward()
        end_step(model, optimizer, step)
        found += [loss.item(), str(model.peft_config["default"].rank_pattern)]
    return found

swift = trained(package.adalora_forward, package.adalora_mask_to_budget)
print("same" if swift == trained(ours.adalora_forward, ours.adalora_mask_to_budget) else "other")
"""
"""Losses and masks of a run; each module has its functions, whichever is PEFT's at the moment."""


@pytest.mark.nightly
@pytest.mark.skipif(not find_spec("swift"), reason="ms-swift is not installed")
def test_what_the_tests_here_replace_is_what_the_package_replaces() -> None:
    paths = [path for path in sys.path if path.endswith(("support", "tests"))]
    printed = output_of_python("-P", "-c", SAME.format(paths=paths))
    assert printed.split()[-1] == "same"
