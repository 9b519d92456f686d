"""Configure the tests of the contract."""

from __future__ import annotations

import importlib.util

# Where PEFT is not installed the comparison with it cannot even be imported.
collect_ignore = (
    []
    if importlib.util.find_spec("peft")
    else ["test_lora_claims.py", "test_peft_parity.py", "test_peft_claims.py"]
)
