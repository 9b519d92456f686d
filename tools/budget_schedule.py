"""Draw docs/budget-schedule.svg: the average rank over the steps of one run, with its phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.floor.budget import BudgetSchedule, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

MATRICES = 72
SCHEDULE = BudgetSchedule(
    12 * MATRICES, 4 * MATRICES, tinit=200, tfinal=300, total_step=1000, deltaT=50
)
LEFT, RIGHT, TOP, BOTTOM = 36, 700, 52, 232
HIGHEST = 13
BANDS = {
    Phase.WARMUP: ("warm-up", 0.06),
    Phase.BUDGETING: ("budgeting", 0.16),
    Phase.FINAL: ("final", 0.06),
}


def drawing() -> str:
    """Return the drawing, whose colours are legible on white and on black."""
    parts = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" width="720" viewBox="0 0 720 280" role="img" '
            'font-family="system-ui, sans-serif" font-size="13" fill="#7c8090">'
        )
    ]
    for phase, (name, tint) in BANDS.items():
        parts += _band(phase, name, tint)
    for rank in (4, 8, 12):
        parts.append(f'<text x="{LEFT - 8}" y="{_y(rank) + 4}" text-anchor="end">{rank}</text>')
    ends = {0: "0", SCHEDULE.tinit: "tinit", SCHEDULE.final_start: "total_step - tfinal"}
    for step, name in (ends | {SCHEDULE.total_step: "total_step"}).items():
        anchor = "end" if step == SCHEDULE.total_step else "middle"
        parts.append(f'<text x="{_x(step)}" y="{BOTTOM + 18}" text-anchor="{anchor}">{name}</text>')
    middle = (LEFT + RIGHT) / 2
    parts += [
        f'<text x="{middle}" y="{BOTTOM + 40}" text-anchor="middle">optimizer step</text>',
        f'<text x="{LEFT - 24}" y="16">average rank</text>',
        f'<polyline fill="none" stroke="#7c8090" stroke-dasharray="4 4" points="{_curve()}"/>',
        f'<polyline fill="none" stroke="#5c6bc0" stroke-width="2.5" points="{_kept()}"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(step: int) -> float:
    return round(LEFT + (RIGHT - LEFT) * step / SCHEDULE.total_step, 1)


def _y(rank: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * rank / HIGHEST, 1)


def _band(phase: Phase, name: str, tint: float) -> list[str]:
    steps = [s for s in range(SCHEDULE.total_step) if SCHEDULE.at(s).phase is phase]
    left, right = _x(steps[0]), _x(steps[-1] + 1)
    shape = f'x="{left}" y="{TOP}" width="{round(right - left, 1)}" height="{BOTTOM - TOP}"'
    return [
        f'<rect {shape} fill="#5c6bc0" fill-opacity="{tint}"/>',
        (
            f'<text x="{round((left + right) / 2, 1)}" y="{TOP - 12}" text-anchor="middle" '
            f'font-weight="600">{name}</text>'
        ),
    ]


def _curve() -> str:
    steps = range(0, SCHEDULE.total_step + 1, 10)
    return _points((step, SCHEDULE.at(step).budget) for step in steps)


def _kept() -> str:
    """Return the corners of the kept budget, which changes at allocations alone."""
    kept = SCHEDULE.initial_budget
    corners = [(0, kept)]
    for step in range(SCHEDULE.total_step):
        if SCHEDULE.at(step).allocates:
            corners += [(step, kept), (step, kept := SCHEDULE.at(step).budget)]
    return _points([*corners, (SCHEDULE.total_step, kept)])


def _points(pairs: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{_x(step)},{_y(budget / MATRICES)}" for step, budget in pairs)
