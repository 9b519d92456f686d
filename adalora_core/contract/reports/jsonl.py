"""Write one JSON object per finding and line, for programs that read a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from adalora_core.contract.reports.json_report import diagnostic_to_json

if TYPE_CHECKING:
    from adalora_core.contract.reports import Outcome


def render(outcome: Outcome) -> str:
    """Write one line per finding in ASCII; nothing if there is none."""
    return "".join(
        json.dumps({"source": report.source, **diagnostic_to_json(diagnostic)}) + "\n"
        for report in outcome.reports
        for diagnostic in report.diagnostics
    )
