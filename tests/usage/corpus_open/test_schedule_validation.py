import pytest
from peft import AdaLoraConfig


class TestTiming:
    @pytest.mark.parametrize(
        "timing",
        [
            {"total_step": 200, "tinit": 0, "tfinal": 50},
            {"total_step": 200, "tinit": 20, "tfinal": 20},
        ],
    )
    def test_valid(self, timing):
        AdaLoraConfig(**timing)

    def test_total_step_is_needed(self):
        with pytest.raises(ValueError, match="total_step"):
            AdaLoraConfig(total_step=None)

    def test_phase_is_needed(self):
        with pytest.raises(ValueError, match="budgeting phase"):
            AdaLoraConfig(total_step=200, tinit=100, tfinal=100)

    def test_dora_is_refused(self):
        with pytest.raises(ValueError, match="DoRA"):
            AdaLoraConfig(use_dora=True, total_step=200, tfinal=20)


def test_r_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="`r` is not used"):
        config = AdaLoraConfig(r=10, init_r=12, target_r=8, total_step=200, tfinal=20)
    assert config.init_r == 12
