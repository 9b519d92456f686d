"""No Python call may crash the interpreter; every refusal names op and argument."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import output_of_python
from tolerances import assert_all_equal

from adalora_core import _cpu, ops

FUZZ = Path(__file__).parents[1] / "support" / "binding_fuzz.py"


SLOW_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4)]


@pytest.mark.parametrize("seed", [1, *SLOW_SEEDS])
def test_wrong_arguments_are_refused_by_name_and_never_crash(seed: int) -> None:
    fuzz(seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1, 2])
def test_the_emulated_module_refuses_wrong_arguments_by_name_too(
    seed: int, emulated_core: Any
) -> None:
    fuzz(seed, emulated_core.__file__)


IN_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
source = '''
try:
    import adalora_core._cpu
except ImportError as error:
    print(error, flush=True)
'''
interpreters.run_string(interpreters.create(), source)
import adalora_core._cpu
print(adalora_core._cpu.thread_count() > 0)
"""


@pytest.mark.parametrize("first", ["", "import adalora_core._cpu\n"], ids=["alone", "after main"])
def test_a_subinterpreter_gets_an_import_error_and_no_deadlock(first: str) -> None:
    program = first + IN_SUBINTERPRETER
    said, works = output_of_python("-c", program, timeout=600).splitlines()
    assert "subinterpreter" in said
    assert works == "True"


def fuzz(seed: int, *module: str) -> None:
    rounds = 3000
    counts = output_of_python("-W", "ignore", FUZZ, seed, rounds, *module, timeout=1200)
    refused, accepted = map(int, counts.split())
    assert refused + accepted == rounds
    assert refused > rounds // 2


def importance(**changed: Any) -> None:
    triple = [torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)]
    lists = {
        name: [each.clone() for each in triple]
        for name in ("parameters", "gradients", "smoothed", "uncertainty")
    }
    ops.update_importance(**{**lists, "beta1": 0.5, "beta2": 0.5, **changed})  # type: ignore[arg-type]


SHARED = torch.ones(2, 3)
FLAT = torch.zeros(40)
REFUSALS = [
    ({"beta1": 1.5}, r"beta1 must be in \[0, 1\], got 1.5"),
    ({"beta2": float("nan")}, r"beta2 must be in \[0, 1\], got"),
    ({"gradients": [None]}, r"gradients must be as long as parameters, 3, got 1"),
    ({"scores": torch.empty(3)}, r"scores must be \[sum of ranks, 1\] = \[2, 1\], got \[3, 1\]"),
    (
        {"smoothed": [torch.ones(3, 2), torch.ones(2, 1), torch.ones(4, 2)]},
        r"smoothed\[0\] must be the shape of its parameter = \[2, 3\], got \[3, 2\]",
    ),
    (
        {"smoothed": [SHARED, torch.ones(2, 1), torch.ones(4, 2)],
         "uncertainty": [SHARED, torch.ones(2, 1), torch.ones(4, 2)]},
        r"must be in memory of its own, since the op writes to it, got memory that update_imp",
    ),
    ({"smoothed": torch.zeros(17)}, r"smoothed must be one entry per entry of .*, 16, got 17"),
    ({"smoothed": torch.zeros(15)}, r"smoothed must be one entry per entry of .*, >= 16, got 15"),
    ({"uncertainty": torch.zeros(4, 4)}, r"uncertainty must be of one dimension .* got \[4, 4\]"),
    ({"uncertainty": torch.zeros(32)[::2]}, r"uncertainty must be contiguous, got a strided"),
    (
        {"smoothed": torch.zeros(16, dtype=torch.float64)},
        r"smoothed must be of dtype float32, the compute type of all parameters, got float64",
    ),
    (
        {"smoothed": FLAT[:16], "uncertainty": FLAT[15:31]},
        r"uncertainty must be in memory of its own, .* memory that update_importance: smoothed use",
    ),
    (
        {"smoothed": FLAT[:16], "uncertainty": torch.zeros(16),
         "gradients": [FLAT[:6].view(2, 3), None, None]},
        r"smoothed must be in memory of its own, .* update_importance: gradients\[0\] uses too",
    ),
    (
        {"gradients": [SHARED.double(), None, None]},
        r"gradients\[0\] must be of dtype float32, that of its parameter, got float64",
    ),
    (
        {"gradients": [torch.empty(2, 3, device="meta"), None, None]},
        r"gradients\[0\] must be ",
    ),
    (
        {"uncertainty": torch._neg_view(FLAT[:16])},
        r"uncertainty must be an ordinary tensor, got a negative view; call resolve_neg\(\)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), REFUSALS)
def test_a_refusal_says_what_was_expected_and_what_came(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match="^update_importance: .*" + message):
        importance(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"A": torch.ones(3, 5)}, r"A must be \[r, in\], in that of x, = \[3, 7\], got \[3, 5\]"),
        ({"E": torch.ones(2, 1)}, r"E must be \[r, 1\], r that of A, = \[3, 1\], got \[2, 1\]"),
        ({"B": torch.ones(5, 3)}, r"B must be \[out, r\], out that of base_output, = \[4, 3\],"),
        ({"E": torch.ones(3, 1).double()}, r"E must be of dtype float32, that of A, got float64"),
        ({"x": torch.ones(2, 3).to_sparse()}, r"x must be a dense tensor .*call to_dense\(\)"),
        ({"x": torch.ones(2, 3, dtype=torch.cfloat)}, r"x must be of dtype .* got complex64"),
        ({"x": torch.ones(2, 3, dtype=torch.int8)}, r"x must be of dtype .* got int8"),
        ({"scale": float("inf")}, r"scale must be finite, got inf"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"A": FLAT[:21].view(3, 7), "output": FLAT[20:40].view(5, 4)},
         r"output must be in memory of its own, .* got memory that svd_linear: A uses too"),
    ],
)  # fmt: skip
def test_svd_linear_refuses_factors_that_do_not_fit(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "base_output": torch.ones(5, 4), "x": torch.ones(5, 7),
        "A": torch.ones(3, 7), "E": torch.ones(3, 1), "B": torch.ones(4, 3),
        "scale": 0.5, "dropout": 0.0, "seed": 0,
        "hidden": torch.empty(5, 3), "output": torch.empty(5, 4),
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match="^svd_linear: " + message):
        _cpu.svd_linear_forward(*(arguments | changed).values())


def test_a_mask_in_the_memory_of_singular_values_is_refused() -> None:
    mask = torch.ones(8, dtype=torch.bool)
    values = [mask.view(torch.float32).view(2, 1), torch.ones(6, 1)]
    with pytest.raises(
        ValueError, match=r"^apply_mask: singular_values\[0\] must be in memory of "
    ):
        _cpu.apply_mask(mask, values)
    with pytest.raises(ValueError, match=r"^select_triplets: .* select_triplets: .* uses too$"):
        _cpu.select_triplets(torch.ones(8), 4, mask, values)
    with pytest.raises(ValueError, match=r"^select_triplets: mask must .* scores uses too$"):
        _cpu.select_triplets(mask.view(torch.float32), 1, mask[:2], [torch.ones(2, 1)])
    assert mask.all()


def test_a_refused_call_changes_nothing() -> None:
    smoothed = [torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)]
    with pytest.raises(ValueError, match="uncertainty"):
        importance(smoothed=smoothed, uncertainty=[torch.ones(2, 3)] * 3)
    assert all(torch.equal(each, torch.ones_like(each)) for each in smoothed)


@pytest.mark.parametrize("name", ["parameters", "gradients", "smoothed", "uncertainty"])
def test_a_tensor_whose_data_became_a_negative_view_is_refused_or_served_rightly(name: str) -> None:
    # The sign of a parameter or its gradient does not matter: |p * g|.
    names = ("parameters", "gradients", "smoothed", "uncertainty")
    lists = {each: [torch.rand(2, 3), torch.rand(2, 1), torch.rand(4, 2)] for each in names}
    ops.update_importance(*lists.values(), 0.5, 0.5)  # type: ignore[arg-type]
    copies = {each: [one.clone() for one in lists[each]] for each in names}
    first = lists[name][0]
    first.data = torch._neg_view(-first)
    if name in ("smoothed", "uncertainty"):
        with pytest.raises(ValueError, match=rf"{name}\[0\] must be an ordinary tensor"):
            ops.update_importance(*lists.values(), 0.5, 0.5)  # type: ignore[arg-type]
        return
    for each in (lists, copies):
        ops.update_importance(*each.values(), 0.5, 0.5)  # type: ignore[arg-type]
    assert_all_equal(lists["smoothed"], copies["smoothed"])


def test_tensors_are_not_kept_alive_between_calls() -> None:
    import weakref

    lists = [[torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)] for _ in range(4)]
    ops.update_importance(*lists, 0.5, 0.5)  # type: ignore[misc]
    alive = [weakref.ref(each) for tensors in lists for each in tensors]
    del lists
    assert [each() for each in alive] == [None] * 12


def test_a_moved_parameter_is_read_where_it_is_now() -> None:
    parameters = [torch.nn.Parameter(torch.ones(each)) for each in ((2, 3), (2, 1), (4, 2))]
    averages = [[torch.zeros_like(each) for each in parameters] for _ in range(2)]
    for value in (1.0, 3.0):
        for each in parameters:
            each.data = torch.full_like(each, value)
            each.grad = torch.ones_like(each)
        gradients = [each.grad for each in parameters]
        ops.update_importance(parameters, gradients, *averages, 0.5, 0.5)  # type: ignore[misc]
    assert averages[0][0].unique().tolist() == [0.5 * 0.5 + 0.5 * 3.0]


def call_all(tensors: list[torch.Tensor], results: Any) -> None:
    """Call every op on sizes that are spread over threads where there are some."""
    # In place and into memory that is there: torch's own large ops may hang in a forked child, and
    # making a large tensor is one.
    base, x, A, E, B, smoothed, uncertainty, gradients = tensors
    output = ops.svd_linear(base, x, A, E, B, 0.5, inplace=True)
    factors = [A, E, B]
    scores = torch.empty(len(E))
    ops.update_importance(factors, factors, smoothed, uncertainty, 0.5, 0.5, scores=scores)
    mask = ops.select_triplets(scores, 2, [E])
    grams, norms = torch.empty(2 * len(E) ** 2), torch.empty(2, dtype=torch.float64)
    penalty = _cpu.orthogonality_penalty([A], [B], grams, norms)
    _cpu.orthogonality_gradient([A], [B], grams, norms, 1.0, gradients)
    found = (output[0, 0].item(), smoothed[0].item(), int(mask.sum()), penalty > 0)
    results.put((*found, gradients[0].item() > 0, _cpu.thread_count()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="no fork; would have shown that it works there")
def test_a_forked_child_runs_serially_after_the_parent_used_threads() -> None:
    context = multiprocessing.get_context("fork")
    shapes = [(600, 20000), (600, 800), (4, 800), (4, 1), (20000, 4)]
    tensors = [torch.ones(shape) for shape in shapes]
    entries = sum(each.numel() for each in tensors[2:])
    tensors += [torch.zeros(entries), torch.zeros(entries), torch.zeros(4 * 800 + 20000 * 4)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        call_all(tensors, results := context.SimpleQueue())
        assert results.get() == (1 + 4 * 800 * 0.5, 0.5, 2, True, True, 2)
        tensors[3].fill_(1)
        child = context.Process(target=call_all, args=(tensors, results))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert results.get() == (1 + 2 * 4 * 800 * 0.5, 0.75, 2, True, True, 1)
    finally:
        torch.set_num_threads(before)


def test_data_loader_workers_may_call_the_ops() -> None:
    from torch.utils.data import DataLoader

    loader = DataLoader(AdaptedRows(), num_workers=1, batch_size=None)
    assert [each.item() for each in loader] == [3.0 * 8, 3.0 * 8]


class AdaptedRows(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= len(self):
            raise IndexError(index)
        x, A, E, B = torch.ones(8), torch.ones(3, 8), torch.ones(3, 1), torch.ones(1, 3)
        return ops.svd_linear(torch.zeros(1), x, A, E, B, 1.0)


@pytest.mark.slow
def test_the_stub_describes_the_compiled_module(tmp_path: Path) -> None:
    # The section types checks what the stub imports; reading torch once more takes a minute.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\n[mypy-torch.*,adalora_core.*]\nfollow_imports = skip\n", "utf-8")
    check = ["-m", "mypy.stubtest", "--mypy-config-file", settings]
    output_of_python(*check, "adalora_core._cpu")
