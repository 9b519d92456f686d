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


def trained(loop: str) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Return head and adapter after training through `loop`, by name, and the ranks."""
    torch.manual_seed(0)
    model, head, words = prepare(SETTINGS, loop)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train(model, head, words, SETTINGS, lambda *_: None, loop)
    parameters = {name: x.detach() for name, x in model.named_parameters() if x.requires_grad}
    return {**head.state_dict(), **parameters}, allocator_of(model).active_ranks()


@pytest.mark.slow
def test_trainer_trains_what_the_loop_of_its_own_trains() -> None:
    expected, ranks = trained("raw")
    found, found_ranks = trained("trainer")
    assert found_ranks == ranks
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
