"""The loops of the demo train the same model in the same way."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from adalora_runs import allocator_of
from demo_loops import prepare, train

from adalora_core.demo.settings import QUICK

# All words in one batch, so that the order in which a loop draws them does not matter.
SETTINGS = dataclasses.replace(QUICK, train_words=16, batch_size=16, epochs=20, tfinal=4)


def trained(loop: str) -> tuple[list[torch.Tensor], list[int]]:
    """Return head and adapter after training through `loop`, and the ranks."""
    torch.manual_seed(0)
    model, head, words = prepare(SETTINGS, loop)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train(model, head, words, SETTINGS, lambda *_: None, loop)
    parameters = [each.detach() for each in model.parameters() if each.requires_grad]
    return [*head.parameters(), *parameters], allocator_of(model).active_ranks()


@pytest.mark.slow
def test_trainer_trains_what_the_loop_of_its_own_trains() -> None:
    expected, ranks = trained("raw")
    found, found_ranks = trained("trainer")
    assert found_ranks == ranks
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)
