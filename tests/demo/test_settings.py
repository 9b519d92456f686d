"""The demo's settings are valid, and cover the steps they name."""

from __future__ import annotations

import warnings

import pytest

from adalora_core import validate_config
from adalora_core.checker.plan.plan import Plan
from adalora_core.demo.settings import FULL, QUICK
from adalora_core.floor.adapter_spec import AdapterSpec


@pytest.mark.parametrize("settings", [FULL, QUICK], ids=["full", "quick"])
def test_configuration_passes_the_contract_without_a_warning(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = validate_config(settings.configuration())
    assert config.total_step == settings.total_step


def test_full_run_takes_314_steps_with_a_last_smaller_batch():
    assert (FULL.steps_per_epoch, FULL.total_step) == (157, 314)


def test_learning_rate_rises_to_its_peak_and_falls_to_its_floor():
    factors = [FULL.learning_rate_factor(step) for step in range(FULL.total_step)]
    peak = factors.index(1.0)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[0] > 0
    assert factors[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("settings", [FULL, QUICK], ids=["full", "quick"])
def test_phases_cover_every_step_once(settings):
    spec = AdapterSpec.of(validate_config(settings.configuration()))
    schedule = spec.schedule().for_matrices(36)
    steps = [
        (phase.name.replace("-", ""), step)
        for phase in Plan(schedule, 36, spec.lora_alpha, spec.init_r).phases()
        for step in range(phase.first, phase.last + 1)
    ]
    assert steps == [(schedule.at(s).phase.value, s) for s in range(settings.total_step)]
