"""svd_linear against its oracle, in every dtype, layout and shape; dropout, in place, compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerances import DTYPES, assert_all_close, assert_all_equal, assert_close, coarser

from adalora_core import ops, reference

# (leading dimensions, in, r, out): odd, rank 0 and 1, empty batch and sides, one dimension, large,
# more rows than backward sums up at a time, more ranks than the dot products of bfloat16 take
SHAPES = [
    ((5,), 7, 3, 11),
    ((2, 3), 33, 12, 47),
    ((4,), 8, 0, 6),
    ((4,), 8, 1, 6),
    ((0,), 8, 3, 6),
    ((3, 0), 8, 3, 6),
    ((3,), 0, 2, 5),
    ((3,), 5, 2, 0),
    ((), 9, 2, 4),
    ((70,), 600, 13, 530),
    ((2, 40), 515, 24, 130),
    ((301,), 90, 29, 70),
    ((3,), 40, 260, 9),
    ((20,), 33, 12, 30_000),  # more than a thread of the core keeps for what its ops need
]
SCALE = 0.7


def make(
    shape: tuple[Any, ...], dtype: torch.dtype, factors_dtype: torch.dtype | None = None
) -> list[torch.Tensor]:
    lead, n_in, rank, n_out = shape
    factors_dtype = factors_dtype or dtype
    return [
        torch.randn(*lead, n_out).to(dtype),
        torch.randn(*lead, n_in).to(dtype),
        (torch.randn(rank, n_in) * 0.1).to(factors_dtype),
        torch.randn(rank, 1).to(factors_dtype),
        (torch.randn(n_out, rank) * 0.1).to(factors_dtype),
    ]


def run(op: Any, tensors: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    output = op(*leaves, SCALE)
    return [output, *torch.autograd.grad(output, leaves, grad)]


def oracle(tensors: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    return run(reference.svd_linear, [each.double() for each in tensors], grad.double())


def check_against_oracle(tensors: list[torch.Tensor], device: str) -> None:
    # The CPU computes in the compute type of the factors, a GPU multiplies in the dtype of x.
    products = [] if device in {"cpu", "portable"} else [tensors[1].dtype]
    grad = torch.randn(tensors[0].shape).to(tensors[0].dtype)
    found = run(ops.svd_linear, tensors, grad)
    for actual, expected, like in zip(
        found, oracle(tensors, grad), [tensors[0], *tensors], strict=True
    ):
        assert actual.dtype == like.dtype
        assert_close(actual, expected, coarser(like.dtype, *products))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_equal_the_oracle(
    shape: tuple[Any, ...], dtype: torch.dtype, device: str
) -> None:
    check_against_oracle(make(shape, dtype), device)


@pytest.mark.parametrize("base", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_adapters_on_a_low_precision_base_equal_the_oracle(
    shape: tuple[Any, ...], base: torch.dtype, device: str
) -> None:
    check_against_oracle(make(shape, base, torch.float32), device)


@pytest.mark.parametrize("factors_dtype", [torch.bfloat16, torch.float16])
def test_low_precision_factors_are_multiplied_in_float32(factors_dtype: torch.dtype) -> None:
    for _ in range(100):
        tensors = make(((4,), 6, 3, 5), torch.float32, factors_dtype)
        grad = torch.randn(4, 5)
        found, expected = run(ops.svd_linear, tensors, grad), oracle(tensors, grad)
        assert_all_close(found[:3], expected[:3], torch.float32)
        # The gradients of the factors are rounded once.
        for actual, wanted in zip(found[3:], expected[3:], strict=True):
            step = torch.finfo(factors_dtype).eps * wanted.abs().max().item()
            assert (actual.double() - wanted).abs().max().item() <= 0.51 * step


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_under_autocast_output_and_gradients_equal_the_oracle(
    base: torch.dtype, given: torch.dtype, device: str
) -> None:
    tensors = make(((2, 3), 33, 12, 47), given, torch.float32)
    tensors[0] = tensors[0].to(base)
    grad = torch.randn(tensors[0].shape).to(base)
    expected = oracle(tensors, grad)
    place = "cuda" if device == "cuda" else "cpu"
    leaves = [each.requires_grad_() for each in tensors]
    for forward, backward in ((True, False), (True, True), (False, True)):
        with torch.autocast(place, torch.bfloat16, enabled=forward):
            output = ops.svd_linear(*leaves, SCALE)
        with torch.autocast(place, torch.bfloat16, enabled=backward):
            found = [output, *torch.autograd.grad(output, leaves, grad)]
        assert [each.dtype for each in found] == [each.dtype for each in (tensors[0], *tensors)]
        assert_all_close(found, expected, torch.bfloat16)


@pytest.mark.cpu_core
def test_low_precision_base_rounds_its_output_once() -> None:
    base, x, A, E, B = make(((6,), 16, 4, 8), torch.bfloat16, torch.float32)
    expected = reference.svd_linear(base, x, A, E, B, SCALE)
    assert torch.equal(ops.svd_linear(base, x, A, E, B, SCALE), expected)


@pytest.mark.cpu_core  # the products of cuBLAS promise nothing of the kind
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype: torch.dtype) -> None:
    base, x, *factors = make(((23,), 130, 13, 77), dtype)
    whole = ops.svd_linear(base, x, *factors, SCALE)
    for rows in (slice(0, 3), slice(5, 6), slice(17, 23)):
        part = ops.svd_linear(base[rows], x[rows], *factors, SCALE)
        assert torch.equal(part, whole[rows])


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values_of_zero_leave_the_base_output_as_it_is(dtype: torch.dtype) -> None:
    base, x, A, E, B = make(((9,), 40, 12, 50), dtype)
    assert torch.equal(ops.svd_linear(base, x, A, torch.zeros_like(E), B, SCALE), base)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same numbers with gaps between rows and columns."""
    room = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3), 7.0, dtype=tensor.dtype)
    view = room[..., 1 : 1 + 2 * tensor.shape[-1] : 2]
    return view.copy_(tensor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", [(9,), (2, 5), (2, 3, 4)])
def test_strided_tensors_equal_the_oracle(lead: tuple[int, ...], dtype: torch.dtype) -> None:
    tensors = [strided(each) for each in make((lead, 17, 5, 13), dtype)]
    assert not any(each.is_contiguous() for each in tensors)
    check_strided(tensors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", range(5))
def test_one_strided_tensor_among_plain_ones_equals_the_oracle(
    which: int, dtype: torch.dtype
) -> None:
    tensors = make(((9,), 37, 5, 43), dtype)
    tensors[which] = strided(tensors[which])
    check_strided(tensors)


@pytest.mark.parametrize("shape", [(2, 3, 4, 0), (2, 0, 4, 5), (0, 3, 4, 5)])
def test_permuted_tensors_without_entries_are_served(shape: tuple[int, ...], device: str) -> None:
    del device
    x = torch.ones(shape).permute(2, 1, 0, 3).requires_grad_()
    A, E, B = torch.ones(2, shape[-1]), torch.ones(2, 1), torch.ones(7, 2)
    output = ops.adapted_linear(x, torch.ones(7, shape[-1]), None, A, E, B, SCALE)
    assert output.shape == (*x.shape[:-1], 7)
    assert not output.any()
    (grad,) = torch.autograd.grad(output, x, torch.ones(output.shape))
    assert grad.shape == x.shape


def test_transposed_tensors_equal_the_oracle() -> None:
    base, x, A, E, B = make(((3, 4), 6, 2, 5), torch.float32)
    base = base.transpose(0, 1).contiguous().transpose(0, 1)
    x = x.transpose(0, 2).contiguous().transpose(0, 2)
    A = A.T.contiguous().T
    B = B.T.contiguous().T
    check_strided([base, x, A, E, B])


def check_strided(tensors: list[torch.Tensor]) -> None:
    leaves = [each.detach().requires_grad_() for each in tensors]
    output = ops.svd_linear(*leaves, SCALE)
    grad = strided(torch.randn(output.shape).to(output.dtype))
    found = torch.autograd.grad(output, leaves, grad)
    assert_all_close([output, *found], oracle(tensors, grad), tensors[0].dtype)


def test_gradcheck_of_both_orders_passes() -> None:
    tensors = [each.requires_grad_() for each in make(((5,), 7, 3, 11), torch.float64)]

    def function(*inputs: torch.Tensor) -> torch.Tensor:
        return ops.svd_linear(*inputs, SCALE)  # type: ignore[misc]

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@pytest.mark.parametrize("lead", [(6,), (2, 3)])
def test_inplace_writes_into_the_base_output_and_keeps_the_gradients(lead: tuple[int, ...]) -> None:
    base, *rest = make((lead, 8, 3, 5), torch.float32)
    weight = torch.randn(5, 5, requires_grad=True)
    rest = [each.requires_grad_() for each in rest]
    expected = ops.svd_linear(base @ weight, *rest, SCALE)
    expected_grads = torch.autograd.grad(expected.square().sum(), [weight, *rest])
    output = base @ weight
    version, address = output._version, output.data_ptr()
    result = ops.svd_linear(output, *rest, SCALE, inplace=True)
    assert result is output
    assert result.data_ptr() == address
    assert result._version > version
    assert torch.equal(result, expected)
    grads = torch.autograd.grad(result.square().sum(), [weight, *rest])
    assert_all_equal(grads, expected_grads)


@pytest.mark.parametrize("keeps_grad", [False, True])
def test_inplace_into_the_output_of_a_linear_layer_copies_no_gradient(keeps_grad: bool) -> None:
    _, *rest = make(((2, 3), 8, 3, 5), torch.float32)
    rest = [each.requires_grad_() for each in rest]
    x = rest[0]
    linear = torch.nn.Linear(8, 5, device=x.device)
    expected = ops.svd_linear(linear(x), *rest, SCALE)
    expected_grads = torch.autograd.grad(expected.square().sum(), rest)
    output = linear(x)
    if keeps_grad:
        output.retain_grad()
    address = output.data_ptr()
    result = ops.svd_linear(output, *rest, SCALE, inplace=True)
    assert (result.data_ptr(), result.shape) == (address, output.shape)
    assert torch.equal(result, expected)
    assert torch.equal(output, expected)
    # Before torch 2.15 the output is a view, and one that keeps its gradient is written through.
    assert keeps_grad or not any("CopySlices" in name for name in names_in_graph(result))
    result.square().sum().backward()
    assert_all_equal([each.grad for each in rest], expected_grads)  # type: ignore[misc] # backward ran
    assert not keeps_grad or torch.equal(output.grad, 2 * result)  # type: ignore[arg-type]


def names_in_graph(tensor: torch.Tensor) -> set[str]:
    """Return the names of the nodes that lead to `tensor`."""
    found, left = set(), [tensor.grad_fn]
    while left:
        node = left.pop()
        if node is not None:
            found.add(node.name())
            left += [each for each, _ in node.next_functions]
    return found


@pytest.mark.parametrize("which", ["base_output", "x", "gradient"])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_negative_view_is_served(which: str, strided: bool, inplace: bool) -> None:
    def negative(tensor: torch.Tensor) -> torch.Tensor:
        if strided:
            return torch.complex(tensor, -tensor).conj().imag
        return torch._neg_view(-tensor)

    base, x, *factors = make(((6,), 8, 3, 5), torch.float32)
    given = {"base_output": base, "x": x, "gradient": torch.randn(base.shape)}
    expected = oracle([base, x, *factors], given["gradient"])
    base, x, grad = (given | {which: negative(given[which])}).values()
    leaves = [each.requires_grad_() for each in (x, *factors)]
    output = ops.svd_linear(base, *leaves, SCALE, inplace=inplace)
    found = torch.autograd.grad(output, leaves, grad)
    assert_all_close([output, *found], [expected[0], *expected[2:]], torch.float32)
    assert torch.equal(base, output) == inplace


def test_inplace_into_a_transposed_output_writes_there() -> None:
    base, *rest = make(((3, 4), 8, 3, 5), torch.float32)
    expected = ops.svd_linear(base, *rest, SCALE)
    transposed = base.transpose(0, 1).contiguous().transpose(0, 1)
    assert ops.svd_linear(transposed, *rest, SCALE, inplace=True) is transposed
    assert torch.equal(transposed, expected)


def test_inplace_on_a_leaf_that_needs_a_gradient_is_refused_untouched() -> None:
    base, *rest = make(((6,), 8, 3, 5), torch.float32)
    before = base.clone()
    with pytest.raises(ValueError, match="svd_linear: base_output must not be a leaf"):
        ops.svd_linear(base.requires_grad_(), *rest, SCALE, inplace=True)
    assert torch.equal(base, before)


@pytest.mark.parametrize("grad", [True, False])
def test_a_saved_base_output_that_is_overwritten_is_noticed(grad: bool) -> None:
    base, *rest = make(((6,), 8, 3, 5), torch.float32)
    saved = (base.requires_grad_() * 1.0).exp()
    with torch.set_grad_enabled(grad):
        ops.svd_linear(saved, *rest, SCALE, inplace=True).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.sum().backward()


def test_only_wanted_gradients_are_made() -> None:
    base, x, A, E, B = make(((6,), 8, 3, 5), torch.float32)
    ops.svd_linear(base, x, A.requires_grad_(), E, B, SCALE).sum().backward()
    assert A.grad is not None
    assert (base.grad, x.grad, E.grad, B.grad) == (None, None, None, None)


def test_no_grad_mode_gives_the_same_output_without_a_graph() -> None:
    tensors = make(((6,), 8, 3, 5), torch.float32)
    expected = ops.svd_linear(*[each.requires_grad_() for each in tensors], SCALE)
    with torch.no_grad():
        output = ops.svd_linear(*tensors, SCALE)
    assert not output.requires_grad
    assert torch.equal(output, expected)


def dropout_mask(x: torch.Tensor, p: float) -> torch.Tensor:
    """What the op multiplies `x` by, read through an adapter that is the identity."""
    size = x.shape[-1]
    eye = torch.eye(size, dtype=x.dtype)
    return ops.svd_linear(
        torch.zeros_like(x), torch.ones_like(x), eye, torch.ones(size, 1, dtype=x.dtype), eye, 1.0,
        dropout=p,
    )  # fmt: skip


@pytest.mark.parametrize("lead", [(20,), (4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_equals_the_oracle_on_the_dropped_input(
    dtype: torch.dtype, lead: tuple[int, ...]
) -> None:
    tensors = make((lead, 37, 3, 11), dtype)
    grad = torch.randn(*lead, 11).to(dtype)
    torch.manual_seed(5)
    mask = dropout_mask(tensors[1].double(), 0.3)
    torch.manual_seed(5)
    found = run(lambda *a: ops.svd_linear(*a, dropout=0.3), tensors, grad)
    expected = run(
        lambda base, x, *rest: reference.svd_linear(base, x * mask, *rest),
        [each.double() for each in tensors],
        grad.double(),
    )
    assert_all_close(found, expected, dtype)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_scales_it(p: float) -> None:
    mask = dropout_mask(torch.ones(400, 256), p)
    values = mask.unique().tolist()
    assert values == pytest.approx([0.0, 1 / (1 - p)])
    # six standard deviations of 102400 coin tosses
    kept = (mask != 0).double()
    assert abs(kept.mean().item() - (1 - p)) < 6 * (p * (1 - p) / mask.numel()) ** 0.5
    for neighbours in (kept[1:] * kept[:-1], kept[:, 1:] * kept[:, :-1]):
        assert abs(neighbours.mean().item() - (1 - p) ** 2) < 0.01


def test_dropout_follows_the_seed_and_differs_between_calls() -> None:
    x = torch.ones(10, 64)
    torch.manual_seed(1)
    first, second = dropout_mask(x, 0.5), dropout_mask(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout_mask(x, 0.5), first)
    assert not torch.equal(first, second)


def test_dropout_with_a_second_derivative_says_what_to_do() -> None:
    tensors = [each.requires_grad_() for each in make(((5,), 7, 3, 11), torch.float64)]
    output = ops.svd_linear(*tensors, SCALE, dropout=0.5)
    with pytest.raises(NotImplementedError, match="pass dropout=0"):
        torch.autograd.grad(output.sum(), tensors, create_graph=True)


def test_torch_func_transforms_give_the_oracle() -> None:
    base, x, A, E, B = make(((6,), 8, 3, 5), torch.float64)
    found = torch.func.vmap(lambda b, row: ops.svd_linear(b, row, A, E, B, SCALE))(base, x)
    assert_close(found, reference.svd_linear(base, x, A, E, B, SCALE), torch.float64)


@pytest.mark.cpu_core
@pytest.mark.usefixtures("op_backend")
@pytest.mark.slow
def test_compiled_graph_equals_eager_forward_and_backward() -> None:
    tensors = [each.requires_grad_() for each in make(((6,), 8, 3, 5), torch.float32)]

    def step(*inputs: torch.Tensor) -> torch.Tensor:
        return ops.svd_linear(*inputs, SCALE).square().sum()  # type: ignore[misc]

    eager = step(*tensors)
    compiled = torch.compile(step, fullgraph=True)(*tensors)
    assert_close(compiled, eager, torch.float32)
    found, expected = (torch.autograd.grad(each, tensors) for each in (compiled, eager))
    assert_all_close(found, expected, torch.float32)
