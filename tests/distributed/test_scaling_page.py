"""What docs/scaling.md shows runs in two processes, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from process_groups import run_processes
from scaling_page import run_blocks

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_blocks_of_the_page_run_in_two_processes(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    ddp, shard, place, save, _ = re.findall(
        r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    arguments = (2, ddp, shard, place, save, str(tmp_path / "checkpoint"))
    assert run_processes(2, run_blocks, tmp_path / "results", *arguments) == [3, 3]
    assert list((tmp_path / "checkpoint").iterdir())
