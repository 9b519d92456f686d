"""Import modules from files that are on no import path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def module_of(file: Path | str, name: str = "") -> Any:
    """Return the module in `file`, Python or compiled, named as the file or with another `name`."""
    name = name or Path(file).name.partition(".")[0]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
