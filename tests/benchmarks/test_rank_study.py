"""The studies of where rank matters: patterns, plans, claims, and that one sees a fault."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import Counter
from pathlib import Path

import pytest
from programs import output_of_python

torch = pytest.importorskip("torch", reason="would have trained and counted")

STUDY = Path(__file__).parents[2] / "benchmarks" / "studies" / "rank_matters"


pytestmark = pytest.mark.usefixtures("study_modules")

COSTS = {f"blocks.{block}.{kind}": 5 if kind == "up" else 2
         for block in range(4) for kind in ("up", "query")}  # fmt: skip
RANKS = dict(zip(COSTS, (8, 0, 7, 3, 1, 1, 2, 5), strict=True))


@pytest.mark.slow
def test_parameters_and_scale_are_those_of_peft_lora() -> None:
    from adapters import lora
    from causal_model import CausalModel
    from patterns import costs_of, parameters_of
    from tasks import KINDS, SIZES

    model = CausalModel(SIZES["tiny"])
    costs = costs_of(model, KINDS)
    ranks = {path: place % 4 for place, path in enumerate(costs)}
    wanted = parameters_of(ranks, costs)
    adapted = lora(model, 0.125, ranks)
    layers = {path: adapted.base_model.model.get_submodule(path) for path in ranks}
    assert all(hasattr(layers[path], "lora_A") == bool(rank) for path, rank in ranks.items())
    scales = {each.scaling["default"] for each in layers.values() if hasattr(each, "lora_A")}
    assert scales == {0.125}
    trained = [each.numel() for each in adapted.parameters() if each.requires_grad]
    assert len(costs) == 2 * len(KINDS)
    assert sum(trained) == wanted


@pytest.mark.parametrize("parameters", [0, 1, 57, 58, 100, 28 * 4])
def test_mixed_rank_has_at_least_the_parameters_and_less_than_a_triplet_more(parameters) -> None:
    from patterns import mixed, parameters_of

    for seed in range(5):
        ranks = mixed(COSTS, parameters, seed)
        assert 0 <= parameters_of(ranks, COSTS) - parameters < max(COSTS.values())
        assert max(ranks.values()) - min(ranks.values()) <= 1
    assert mixed(COSTS, 100, 1) != mixed(COSTS, 100, 2)


def test_moved_ranks_stay_in_their_kind_and_leave_their_places() -> None:
    from patterns import last_name, moved

    def of_kind(ranks: dict[str, int], kind: str) -> list[int]:
        return [rank for path, rank in ranks.items() if last_name(path) == kind]

    drawn = [moved(RANKS, f"code {seed}", last_name) for seed in range(20)]
    for each in drawn:
        assert [*each] == [*RANKS]
        for kind in ("up", "query"):
            assert sorted(of_kind(each, kind)) == sorted(of_kind(RANKS, kind))
        assert all(each[path] != RANKS[path] for path in RANKS)
    assert len({tuple(each.values()) for each in drawn}) > 10
    assert moved(RANKS, "code 1", last_name) != moved(RANKS, "languages 1", last_name)
    # Two of three fives cannot leave the places of fives.
    alike = dict(zip((f"blocks.{block}.up" for block in range(4)), (5, 5, 5, 1), strict=True))
    places = {moved(alike, f"{seed}", last_name)["blocks.3.up"] for seed in range(20)}
    assert places == {5}


def test_budget_in_parameters_is_kept_and_spent() -> None:
    from adapters import adalora
    from arms import ARMS
    from causal_model import CausalModel, loss_of
    from patterns import costs_of, parameters_of
    from tasks import KINDS, SIZES

    from adalora_core.training.training_state.contents import allocator_of

    torch.manual_seed(0)
    model = CausalModel(SIZES["tiny"])
    costs = costs_of(model, KINDS)
    adapted = adalora(model, ARMS["parameters"], 20, 2.0, costs)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.01)
    for step in range(20):
        loss_of(adapted, torch.randint(0, 256, (4, 65))).backward()
        optimizer.step()
        adapted.update_and_allocate(step)
        optimizer.zero_grad()
    allocator = allocator_of(*adapted.base_model.trained_adapters())
    found, budget = parameters_of(allocator.active_ranks(), costs), 4 * sum(costs.values())
    assert budget - max(costs.values()) < found <= budget
    report = adapted.run_report()
    assert (report.kept, report.target, report.unit) == (found, budget, "parameters")


def test_rates_are_those_of_the_module_and_of_the_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    import causal_runs

    seen = []

    class Recording(torch.optim.AdamW):
        def step(self) -> None:
            seen.append([group["lr"] for group in self.param_groups])

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    monkeypatch.setattr(causal_runs, "loss_of", lambda model, drawn: model(drawn).sum())
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(torch.nn.Sequential(*layers))
    order = iter([torch.ones(1, 2)] * 100)
    causal_runs.train(model, order, 100, 0.01, {"0.0": 3.0}, slow_until=40)
    (fast, plain), (late, _) = seen[39], seen[40]
    assert fast == pytest.approx(3 * plain)
    assert fast == pytest.approx(0.5 * 0.01 * 3 * 0.61)
    assert late == pytest.approx(0.01 * 3 * 0.60)


def test_lora_of_equal_parameters_is_between_the_ranks_that_were_run() -> None:
    from claims import lora_at

    curve = {100: 2.0, 400: 1.0, 1600: 0.5}
    assert lora_at(200, curve) == pytest.approx(1.5)
    assert lora_at(800, curve) == pytest.approx(0.75)
    assert lora_at(400, curve) == 1.0
    assert lora_at(50, curve) == pytest.approx(2.5)
    assert lora_at(3200, curve) == pytest.approx(0.25)


LOSSES = {
    "lora1": 2.0, "lora4": 1.6, "lora6": 1.55, "lora8": 1.5, "even": 1.57, "wide": 1.55,
    "peft": 1.6, "found": 1.54, "shuffled": 1.58, "pilot100": 1.52, "even-pilot": 1.53,
}  # fmt: skip


def outcome_of(job, losses=LOSSES):
    """Return a made-up outcome: the second try is best, and seeds differ."""
    from runs import Outcome
    from tasks import TASKS

    noise = 0.001 * (zlib.crc32(f"{job.seed} {job.arm} {job.task}".encode()) % 5)
    on_encoder = job.task in TASKS and TASKS[job.task].on_encoder
    loss = 0.2 if on_encoder else losses.get(job.arm, 1.7)
    if job.stage == "tune":
        loss += abs(job.learning_rate - 0.01)
    sizes = {"lora1": 10_000, "lora4": 40_000, "lora6": 60_000, "lora8": 80_000}
    return Outcome(
        job=job, loss=loss + noise, parameters=sizes.get(job.arm, 50_000), cpu_seconds=36.0,
        train_seconds=20.0 + noise, base="base", machine="machine",
        ranks=[rank for block in range(4) for rank in (job.seed + block, 4, 3, 2, 1, 0)],
    )  # fmt: skip


def all_outcomes(path: Path, losses=LOSSES):
    """Return outcomes of the whole plan that write no file: a thousand files take minutes."""
    from runs import Outcomes, Plan

    class InMemory(Outcomes):
        def add(self, outcome) -> None:
            self._outcomes[outcome.job] = outcome

    plan, outcomes = Plan(), InMemory(path)
    for job in plan.jobs(outcomes):
        outcomes.add(outcome_of(job, losses))
    return plan, outcomes


def test_study_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rank_study import Runner
    from runs import Outcomes, Plan
    from tasks import Block

    blocks = (Block("code", 300, ("lora1", "wide", "even"), only_tuned=("lora6",)),)
    plan, path, ran = Plan(blocks, seeds=range(1, 3)), tmp_path / "results.jsonl", []

    def go_on(runs: int) -> None:
        """Begin as a new process, which is stopped after some runs."""
        runner = Runner(plan, Outcomes(path), tmp_path)
        before = len(ran)

        def one(job, _block):
            if len(ran) == before + runs:
                raise KeyboardInterrupt
            ran.append(job)
            return outcome_of(job)

        monkeypatch.setattr(runner, "outcome", one)
        runner.run()

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            go_on(3)
    go_on(99)
    go_on(99)
    assert len(ran) == len(set(ran)) == len(path.read_text().splitlines()) == 24


@pytest.mark.parametrize("name", ["places", "in-parameters", "averaged", "rates", "half-rate"])
def test_study_is_read_when_it_is_whole_and_as_its_weights_say(name: str, tmp_path: Path) -> None:
    from studies import STUDIES, reading

    study = STUDIES[name]
    assert sum(study.weights.values()) == pytest.approx(0)
    losses = {**LOSSES, **dict.fromkeys(study.weights, 1.6), "lora4": 1.6, "even-averaged": 1.6}
    first = next(iter(study.weights))
    # One tenth of a nat is the whole from rank 4 to rank 8.
    losses |= {"lora8": 1.5, first: losses[first] - 0.05}
    _, outcomes = all_outcomes(tmp_path / "none.jsonl", losses)
    made = []
    for job in study.plan.jobs(outcomes):
        if job not in outcomes:
            outcomes.add(outcome_of(job, losses))
            made.append(job)
    found = reading(study, outcomes)
    assert found.interval.mean == pytest.approx(0.5, abs=0.04)
    assert found.interval.low < found.lower < found.interval.mean
    assert len(found.beside) == len(study.beside)
    del outcomes._outcomes[made[-1]]
    assert reading(study, outcomes) is None


def test_new_runs_are_paired_with_recorded_ones_of_the_same_pretrained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import causal_runs
    from causal_model import Base
    from runs import Job
    from texts import Text

    _, outcomes = all_outcomes(tmp_path / "none.jsonl")
    monkeypatch.setattr(causal_runs, "pretrained", lambda *_: Base({}, "another", 0.0))
    job, text = Job("code", 300, "test", "moved", 0.01, 2.0, 1), Text(*[torch.ones(1)] * 3)
    texts = {"python": text, "cpp": text}
    with pytest.raises(ValueError, match="expected the digest base, got another"):
        causal_runs.run(job, None, outcomes, texts, tmp_path)


def test_claim_is_made_only_where_it_is_shown(tmp_path: Path) -> None:
    from claims import comparisons, standing

    plan, outcomes = all_outcomes(tmp_path / "none.jsonl")
    found = comparisons(plan, outcomes)
    # Where rank does not matter, on sentences, only whether AdaLoRA is not worse counts.
    counts = Counter(each.claim for each in found)
    assert counts == {"a": 8, "b": 4, "c": 4, "d": 4, "e": 2, "f": 4}
    assert standing("c", found) == "holds, shown in 4 of 4 comparisons"
    assert standing("f", found) == "holds, shown in 4 of 4 comparisons"
    assert standing("a", found) == (
        "holds, shown in 6 of 6 comparisons; where rank does not matter, "
        "does not hold, shown in 0 of 2 comparisons"
    )
    one = next(each for each in found if each.claim == "b")
    # Both have 50,000 parameters, so that the excess differs as the losses do.
    assert one.interval.mean == pytest.approx(-0.05, abs=0.003)
    plan, outcomes = all_outcomes(tmp_path / "none.jsonl", {**LOSSES, "found": 1.6})
    assert standing("c", comparisons(plan, outcomes)) == (
        "does not hold, shown in 0 of 4 comparisons, the contrary in 4"
    )


def test_pages_say_what_the_results_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rank_evidence

    pytest.importorskip("matplotlib", reason="would have drawn the picture of the page")
    import rank_answers

    plan, outcomes = all_outcomes(tmp_path / "none.jsonl")
    for module in (rank_evidence, rank_answers):
        monkeypatch.setattr(module, "Outcomes", lambda _: outcomes)
    tables, first = rank_evidence.block(), rank_answers.answers()
    assert "**(c) The ranks that it finds beat one rank everywhere in a fresh LoRA at" in tables
    assert f"{len(outcomes)} runs, {len(outcomes) / 100:.1f} hours of one processor" in tables
    ranks = rank_evidence.more_parameters(rank_evidence.pooled(plan, outcomes, *PAIR_OF_RANKS))
    assert f"LoRA with the same rank everywhere needs **{ranks}** more parameters" in first
    assert "on 4 of 4 tasks, in 32 of 32 pairs" in first
    own = rank_evidence.more_parameters(
        rank_evidence.pooled(plan, outcomes, *rank_answers.PAIRS[0][1:])
    )
    shown = f"the loss of a LoRA with {own} more parameters, or 20 % more with"
    assert shown in rank_answers.words()
    assert "(tuned in 1,000 steps)" in tables
    assert len(rank_answers.draw().axes) == 2


PAIR_OF_RANKS = ("found", "even", "loss")


def test_study_without_all_its_runs_has_no_answer_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rank_answers
    from studies import STUDIES

    _, outcomes = all_outcomes(tmp_path / "none.jsonl", {**LOSSES, "moved": 1.6})
    monkeypatch.setattr(rank_answers, "outcomes_of", lambda _: outcomes)
    jobs = [job for job in STUDIES["places"].plan.jobs(outcomes) if job not in outcomes]
    for job in jobs[:-1]:
        outcomes.add(outcome_of(job, {**LOSSES, "moved": 1.6}))
    assert rank_answers.questions().count("none: not all runs are made") == len(STUDIES)
    outcomes.add(outcome_of(jobs[-1], {**LOSSES, "moved": 1.6}))
    assert "| yes: 6" in rank_answers.questions()


@pytest.mark.parametrize(
    ("chosen", "mark"),
    [
        ((0.02, 2.0), ""),
        ((0.04, 2.0), " (edge: rate)"),
        ((0.02, 8.0), " (edge: rate, scale)"),
    ],
)
def test_edges_of_rates_and_of_scales_are_marked(chosen, mark: str) -> None:
    from arms import LORA_TRIES, PEFT_START_TRIES
    from study_tables import edge

    assert edge(chosen, LORA_TRIES if chosen[1] == 2 else PEFT_START_TRIES) == mark
    assert edge((0.01, 2.0), ((0.01, 0.5), (0.005, 2.0), (0.01, 2.0), (0.02, 2.0))) == (
        " (edge: scale)"
    )


def test_run_that_needs_a_missing_one_names_it(tmp_path: Path) -> None:
    from runs import Job, Outcomes, Plan, found_ranks

    block = Plan().blocks[0]
    outcomes = Outcomes(tmp_path / "none.jsonl")
    job = Job("code", 300, "test", "found", 0.01, 2.0, 1)
    with pytest.raises(RuntimeError, match=r"arm='wide'.* must run first"):
        found_ranks(job, block, outcomes)
    given = dataclasses.replace(block, given=(0.01, 2.0))
    with pytest.raises(RuntimeError, match=r"arm='wide'.* must run first; its ranks are needed"):
        found_ranks(job, given, outcomes)


def test_averaged_ranks_are_those_of_the_eight_seeds_at_every_length(tmp_path: Path) -> None:
    from runs import Job, found_ranks
    from studies import STUDIES

    _, outcomes = all_outcomes(tmp_path / "none.jsonl")
    for block in STUDIES["averaged"].blocks:
        job = Job("code", block.steps, "test", "averaged", 0.01, 2.0, 9)
        # Each seed found its own number, from 1 to 8, in the first module, and one more a block.
        assert found_ranks(job, block, outcomes)[::6] == [4, 6, 6, 8]


@pytest.mark.nightly
def test_short_form_tells_a_broken_arm_from_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    command = [STUDY / "rank_study.py", "short", "--results", path, "--cache", tmp_path]
    output_of_python(*command, timeout=900)
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    found = {(each["arm"], each["seed"]): each for each in runs}
    assert len(found) == len(runs) == 26
    for seed in (1, 2):
        assert found["lora8", seed]["loss"] < found["lora1", seed]["loss"] - 0.05
        assert found["broken", seed]["loss"] > found["wide", seed]["loss"] + 0.1
        assert sum(found["wide", seed]["ranks"]) == sum(found["broken", seed]["ranks"]) == 12 * 4
        # All adapt: an arm whose adapters are not trained has the loss of the pretrained model.
        arms = ("found", "moved", "parameters", "parameters-found", "rates", "half", "never")
        assert all(found[arm, seed]["loss"] < found["lora1", seed]["loss"] for arm in arms)
        assert sum(found["never", seed]["ranks"]) == 12 * 12
        assert found["parameters", seed]["parameters"] <= found["lora8", seed]["parameters"] / 2
        more = found["even", seed]["parameters"] - found["wide", seed]["parameters"]
        assert 0 <= more < 32 + 128
    before = path.read_bytes()
    output_of_python(*command, timeout=300)
    assert path.read_bytes() == before
