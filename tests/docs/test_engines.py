"""`docs/engines.md` shows what is in the file of rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

from adalora_core.contract.constraints.rules_file import rules_file

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text("utf-8")


def test_entry_shown_is_that_of_the_file():
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    rules = {rule["code"]: rule for rule in rules_file()["rules"]}
    assert json.loads(shown) == rules["ADA301"]
