"""Let the tests of a study import its modules, and those that write its pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "benchmarks" / "studies"
FOLDERS = [ROOT / "tools", *(STUDIES / each for each in ("allocation", "rank_matters", "cutting"))]


@pytest.fixture(scope="module")
def study_modules():
    with pytest.MonkeyPatch.context() as patch:
        for folder in FOLDERS:
            patch.syspath_prepend(folder)
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent in FOLDERS:
                del sys.modules[name]
