"""The study of cutting a trained LoRA: its cuts, its plan, and that it claims what is there."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("study_modules")

BASES: dict[tuple[str, int], str] = {}
"""The pretrained models of the second study, whose runs count here."""


def made_up(plan, outcomes, job):
    """Return a made-up outcome: by bytes 0.1 better than one rank, trained 0.1 better still."""
    from cut_plan import CHOICES, PARTS, WHOLE, Cut, Outcome

    loss = {WHOLE: 1.0, 8: 1.2, 5: 1.3, 4: 1.4}[job.rank] + 0.001 * job.seed
    if job.stage == "tune":
        return Outcome(job, loss + abs(job.learning_rate - 0.01), 60.0, "base", "machine")
    if reused := plan.ran_before(job, outcomes):
        return dataclasses.replace(reused, loss=loss)
    worse = dict(zip(CHOICES, (0.2, 0.1, 0.15, 0.12 + 0.01 * job.seed), strict=True))
    cuts = [
        Cut(size, choice, 1.6 - 0.05 * size + more + 0.002 * job.seed, 1000, 0.8, [size])
        for size in PARTS
        for choice, more in worse.items()
    ]  # fmt: skip
    base = BASES.get((job.task, job.seed), "base")
    return Outcome(job, loss, 60.0, base, "machine", 2000, 4.0, cuts if job.rank == WHOLE else [])


def test_page_claims_nothing_that_is_not_there(tmp_path: Path) -> None:
    import cut_evidence
    import outcomes as second_study
    from cut_plan import SECOND, Outcomes, Plan

    class InMemory(Outcomes):
        def add(self, outcome) -> None:
            self._outcomes[outcome.job] = outcome

    for each in second_study.Outcomes(SECOND):
        if each.job.arm == "lora8" and each.job.steps == 300:
            BASES[each.job.task, each.job.seed] = each.base
    BASES["code", 5] = "another"  # pretrained again, so that the second study's runs do not count
    plan, held = Plan(), InMemory(tmp_path / "none.jsonl")
    jobs = []
    for job in plan.jobs(held):
        jobs.append(job)
        held.add(made_up(plan, held, job))
    assert len(jobs) == len(set(jobs)) == 95
    assert {job.learning_rate for job in jobs if job.stage == "test" and job.rank == 16} == {
        0.01, 0.004,
    }  # fmt: skip
    reused = [each for each in held if not each.cpu_seconds]
    assert {each.job.rank for each in reused} == {8, 4}
    assert not any((each.job.task, each.job.seed) == ("code", 5) for each in reused)
    lines = [json.dumps(each.record()) + "\n" for each in held]
    path = tmp_path / "results.jsonl"

    def page(count: int) -> str:
        path.write_text("".join(lines[:count]))
        return cut_evidence.block(path)

    empty, part, whole = page(0), page(15 + 2 * 16), page(len(lines))
    assert "0 of 80 planned tests are done. **The study is incomplete**" in empty
    assert "|" not in empty
    assert "32 of 80 planned tests are done. **The study is incomplete**" in part
    assert part.count("not decided, shown in 0 of 12 comparisons, 12 not done yet") == 3
    assert "| half, rank 8 | 2 | -0.1000 [" in part
    assert "shown |" not in part
    assert "incomplete" not in whole
    assert "one rank everywhere: holds, shown in 12 of 12 comparisons" in whole
    assert "| 5 | -0.1000 [-0.1000, -0.1000], p 0: shown |" in whole
