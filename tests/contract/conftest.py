"""Configure the tests of the contract."""

from __future__ import annotations

import importlib.util

from hypothesis import settings

# Where PEFT is not installed the comparison with it cannot even be imported.
collect_ignore = (
    [] if importlib.util.find_spec("peft") else ["test_peft_parity.py", "test_peft_claims.py"]
)

# On a loaded machine one slow example is not a failure, so examples have no deadline.
settings.register_profile("contract", deadline=None)
settings.load_profile("contract")
