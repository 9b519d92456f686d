"""Draw docs/finding-light.svg and docs/finding-dark.svg: a wrong loop, its finding and its mend.

Both show what `adalora check` prints, so that the pictures cannot promise another command.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import textwrap
from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT = """\
from peft import AdaLoraConfig, get_peft_model

settings = {"init_r": 12, "target_r": 4, "tfinal": 500, "total_step": 3000, "task_type": task}
model = get_peft_model(base, AdaLoraConfig(target_modules=["q_proj", "v_proj"], **settings))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step, batch in enumerate(loader):
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    model.update_and_allocate(step)
"""
CALL, DROP = "    model.update_and_allocate(step)\n", "    optimizer.zero_grad()\n"
MENDED = SCRIPT.replace(DROP + CALL, CALL + DROP)
COLORS = {
    "light": {"back": "#ffffff", "edge": "#d0d7de", "plain": "#1f2328", "quiet": "#59636e",
              "warning": "#8a5a00", "caret": "#c62828", "plus": "#116329", "minus": "#a40e26"},
    "dark": {"back": "#0f1419", "edge": "#3d444d", "plain": "#e6edf3", "quiet": "#9aa4af",
             "warning": "#e3b341", "caret": "#ff7b72", "plus": "#56d364", "minus": "#ffa198"},
}  # fmt: skip
"""Each has a contrast of at least 4.5 with the background (tests/docs/test_finding_picture.py)."""
COLUMNS, LINE, CHARACTER, EDGE = 44, 20, 8.43, 16
WIDTH = 404
"""A phone of 390 pixels shows the characters at 12 pixels and more."""
NO_BREAK = "\u00a0"
"""Blanks that no viewer joins."""
PAINTED = {"\x1b[33;1m": "warning", "\x1b[31m": "caret", "\x1b[0m": "plain"}


def printed(script: str) -> str:
    """Return what `adalora check --color always train.py` prints of a script."""
    from adalora_core.commands.cli import main

    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("train.py").write_text(script, encoding="utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main(["check", "--isolated", "--color", "always", "train.py"])
    return out.getvalue()


def lines() -> list[list[tuple[str, str]]]:
    """Return the lines of the picture as parts: a colour, and its text."""
    found = printed(SCRIPT).partition("\n\n")[0]
    shown = [[("quiet", "$ "), ("plain", "adalora check train.py")]]
    shown += [part for each in found.splitlines() for part in _wrapped(_painted(each))]
    shown.append([])
    loop = SCRIPT[SCRIPT.index("for step") :].replace(DROP + CALL, "")
    shown += [[("quiet", f"  {each}")] for each in loop.splitlines()]
    moved = (("minus", "- ", DROP), ("quiet", "  ", CALL), ("plus", "+ ", DROP))
    return shown + [[(color, mark + text.rstrip())] for color, mark, text in moved]


def _painted(line: str) -> list[tuple[str, str]]:
    """Return a line of the terminal as parts."""
    color, parts = "plain", []
    for text in re.split(r"(\x1b\[[0-9;]*m)", line):
        if text in PAINTED:
            color = PAINTED[text]
        elif text:
            parts.append((color, text))
    return parts


def _wrapped(parts: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Return a line as lines that a phone can show; only its last part is long."""
    *before, (color, text) = parts
    used = " " * sum(len(each) for _, each in before)
    if len(used + text) <= COLUMNS:
        return [parts]
    first, *rest = textwrap.wrap(used + text, COLUMNS, subsequent_indent=" " * 8)
    return [[*before, (color, first[len(used) :])], *([(color, each)] for each in rest)]


def draw(mode: str) -> str:
    """Return the picture as SVG, in the colours of "light" or "dark"."""
    colors, shown = COLORS[mode], lines()
    height = LINE * len(shown) + 2 * EDGE
    rows = []
    for row, parts in enumerate(shown):
        column = 0
        for color, text in parts:
            x, y = EDGE + CHARACTER * column, EDGE + LINE * row + 14
            weight = ' font-weight="bold"' if color in {"warning", "caret"} else ""
            rows.append(
                f'<text x="{x:.1f}" y="{y}" textLength="{CHARACTER * len(text):.1f}" '
                f'fill="{colors[color]}"{weight}>{escape(text).replace(" ", NO_BREAK)}</text>'
            )
            column += len(text)
    title = "A training loop that drops its gradients too early, what adalora check says, the mend"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14">\n'
        f"<title>{title}</title>\n"
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" '
        f'fill="{colors["back"]}" stroke="{colors["edge"]}"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def pictures() -> dict[Path, str]:
    """Return both files; raise if the mended loop has a finding itself."""
    if "ADA9" in printed(MENDED):
        raise SystemExit("finding_picture: the mended loop has a finding")
    return {DOCS / f"finding-{mode}.svg": draw(mode) for mode in COLORS}
