"""Where PEFT is not installed the comparison with it cannot even be imported."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("peft") else ["test_peft_parity.py"]
