"""Probe what of torch records, transforms and changes modules; see torch_machinery.py.

A probe gets a model and its input, and returns tensors that the reference has to give as well.
"""

from __future__ import annotations

import copy
import io
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from machinery_models import WIDTH, Encoder, Small, factors_of, offloaded, parametrised, shared
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from watchers import WATCHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    Tensors = Sequence[torch.Tensor]
    Probe = Callable[[Any, torch.Tensor], Tensors]
    Base = Callable[[], nn.Module | AbstractContextManager[nn.Module]]

CLOSE, CLOSE_UNDER_AUTOCAST = 1e-4, 5e-2


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        machinery: name of the row.
        probe: what is done with a model.
        base: makes the model that is adapted.
        plain: what is done with the reference, if that is something else.
        plain_base: makes the model of the reference, if that is another one.
        tolerance: how far results may be from the reference, relative to the largest.
    """

    machinery: str
    probe: Probe
    base: Base = Small
    plain: Probe | None = None
    plain_base: Callable[[], nn.Module] | None = None
    tolerance: float = CLOSE


def batch(seed: int = 0) -> torch.Tensor:
    """Return an input, `[2, 4, WIDTH]`."""
    return torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(seed))


def factors(model: nn.Module) -> list[torch.Tensor]:
    """Return the factors in an order that does not depend on the model."""
    return [*factors_of(model).values()]


def outputs(model: Any, x: torch.Tensor) -> Tensors:
    """Return the output without gradients."""
    with torch.no_grad():
        return [model(x)]


def loss_of(output: torch.Tensor) -> torch.Tensor:
    """Return a number."""
    return output.float().sin().sum()


def step(model: Any, x: torch.Tensor) -> Tensors:
    """Return the output and the gradients of the factors."""
    output = model(x)
    return [output, *torch.autograd.grad(loss_of(output), factors(model))]


def pure(model: nn.Module) -> Callable[..., torch.Tensor]:
    """Return the model as a function of its input and its factors."""
    names = [
        next(name for name, each in model.named_parameters() if each is factor)
        for factor in factors_of(model).values()
    ]

    def function(x: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return functional_call(model, dict(zip(names, tensors, strict=True)), (x,))  # type: ignore[no-any-return]

    return function


def inputs_of(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the arguments of `pure(model)`."""
    return [x, *(each.detach() for each in factors(model))]


def watched(watcher: str) -> Probe:
    """Return a probe that runs a watcher of the tests, over the input and all factors."""

    def probe(model: Any, x: torch.Tensor) -> Tensors:
        inputs = inputs_of(model, x)
        return WATCHERS[watcher](pure(model), inputs, [each.flip(0) for each in inputs])

    return probe


# --- traces and exports ---------------------------------------------------------------------------


def traced(model: Any, x: torch.Tensor) -> Tensors:
    """Trace without gradients; run the trace with gradients."""
    with torch.no_grad():
        found = torch.jit.trace(model.eval(), x)
    return [found(x.flip(0)), *torch.autograd.grad(loss_of(found(x)), factors(model))]


def flipped_step(model: Any, x: torch.Tensor) -> Tensors:
    """Return what `traced` returns."""
    return [model(x.flip(0)), *step(model, x)[1:]]


def onnx(dynamo: bool, model: Any, x: torch.Tensor) -> Tensors:
    """Export, and run the file in ONNX's own evaluator."""
    import onnx as library
    from onnx.reference import ReferenceEvaluator

    file = io.BytesIO()
    torch.onnx.export(model.eval(), (x,), file, dynamo=dynamo, verbose=False)
    run = ReferenceEvaluator(library.load_from_string(file.getvalue()))
    return [torch.from_numpy(run.run(None, {run.input_names[0]: x.numpy()})[0])]


def exported(model: Any, x: torch.Tensor) -> Tensors:
    """Save and load a program, which must need torch alone."""
    file = io.BytesIO()
    program = torch.export.export(model.eval(), (x,))
    called = [str(each.target) for each in program.graph.nodes if each.op == "call_function"]
    if any("adalora" in each for each in called):
        raise AssertionError(f"the program calls {called}")
    torch.export.save(program, file)
    file.seek(0)
    return [torch.export.load(file).module()(x)]


def compiled(model: Any, x: torch.Tensor) -> Tensors:
    """Compile the whole model to one graph."""
    torch.compiler.reset()
    function = torch.compile(model, fullgraph=True, backend="aot_eager")
    output = function(x)
    return [output, *torch.autograd.grad(loss_of(output), factors(model))]


# --- checkpointing and derivatives ----------------------------------------------------------------


def checkpointed(reentrant: bool, model: Any, x: torch.Tensor) -> Tensors:
    """Recompute the whole model in the backward pass; the older kind fills `.grad` alone."""
    output = checkpoint(model, x.clone().requires_grad_(), use_reentrant=reentrant)
    loss_of(output).backward()
    return [output, *(each.grad for each in factors(model) if each.grad is not None)]


def jvp(model: Any, x: torch.Tensor) -> Tensors:
    """Push tangents of all factors forward."""
    inputs = inputs_of(model, x)
    found: Tensors = torch.func.jvp(pure(model), tuple(inputs), tuple(inputs))
    return found


def vjp(model: Any, x: torch.Tensor) -> Tensors:
    """Pull the output back."""
    output, pullback = torch.func.vjp(pure(model), *inputs_of(model, x))
    return [output, *pullback(output)]


def batched_gradients(model: Any, x: torch.Tensor) -> Tensors:
    """Return the gradients for several gradients of the output."""
    output = model(x)
    grads = torch.stack([torch.ones_like(output), output.detach()])
    return torch.autograd.grad(output, factors(model), grads, is_grads_batched=True)


def one_after_another(model: Any, x: torch.Tensor) -> Tensors:
    """Return what `batched_gradients` returns."""
    output = model(x)
    rows = [
        torch.autograd.grad(output, factors(model), grad, retain_graph=True)
        for grad in (torch.ones_like(output), output.detach())
    ]
    return [torch.stack(each) for each in zip(*rows, strict=True)]


def per_sample(model: Any, x: torch.Tensor) -> Tensors:
    """Return the gradients of each sample."""
    _, *tensors = inputs_of(model, x)

    def loss(tensors: list[torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return loss_of(pure(model)(row[None], *tensors))

    found: Tensors = torch.func.vmap(torch.func.grad(loss), (None, 0))(tensors, x)
    return found


def stacked(model: Any, x: torch.Tensor) -> Tensors:
    """Return the outputs of several adapters for one input."""
    _, *tensors = inputs_of(model, x)
    pairs = [torch.stack([each, -each]) for each in tensors]
    found = torch.func.vmap(pure(model), (None, *([0] * len(pairs))))(x, *pairs)
    return [found]


def called(model: Any, x: torch.Tensor) -> Tensors:
    """Call the model with other factors."""
    return [pure(model)(x, *(2 * each for each in factors(model)))]


# --- modules and modes ----------------------------------------------------------------------------


def merged(model: Any, x: torch.Tensor) -> Tensors:
    """Return the step of the model, and the output once its adapter is merged."""
    found = step(model, x)
    return [*found, *outputs(model.merge_and_unload(), x)]


def step_and_output(model: Any, x: torch.Tensor) -> Tensors:
    """Return what `merged` returns."""
    return [*step(model, x), *outputs(model, x)]


def evaluated(model: Any, x: torch.Tensor) -> Tensors:
    """Return the output in eval mode."""
    return outputs(model.eval(), x)


def copied(model: Any, x: torch.Tensor) -> Tensors:
    """Return the step of a copy."""
    return step(copy.deepcopy(model), x)


def autocast(backward: bool, model: Any, x: torch.Tensor) -> Tensors:
    """Return the step with autocast around the forward pass, or around both passes."""
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
        if backward:
            return [output, *torch.autograd.grad(loss_of(output), factors(model))]
    return [output, *torch.autograd.grad(loss_of(output), factors(model))]


ROWS = (
    Row("torch.jit.trace", traced, plain=flipped_step),
    Row("torch.onnx.export(dynamo=False)", partial(onnx, False), plain=outputs),
    Row("torch.onnx.export(dynamo=True)", partial(onnx, True), plain=outputs),
    *(
        Row(f"make_fx, {mode}, forward and backward", watched(f"make_fx, {mode}, step"))
        for mode in ("real", "fake", "symbolic")
    ),
    Row("make_fx, backward alone", watched("make_fx, backward alone")),
    Row("torch.export, saved and loaded", exported, plain=outputs),
    Row("torch.compile(fullgraph=True)", compiled, plain=step),
    Row("selective checkpointing", watched("selective checkpointing")),
    Row("checkpointing", partial(checkpointed, False), plain=step),
    Row("reentrant checkpointing", partial(checkpointed, True), plain=step),
    Row("forward AD under no_grad", watched("forward AD without gradients")),
    Row("forward AD", watched("forward AD")),
    Row("torch.func.jvp", jvp),
    Row("torch.func.vjp", vjp),
    Row("is_grads_batched", batched_gradients, plain=one_after_another),
    Row("jacobian(vectorize=True)", watched("jacobian by rows")),
    Row("hessian(vectorize=True)", watched("hessian")),
    Row("vmap over samples", per_sample),
    Row("vmap over stacked factors", stacked),
    Row("functional_call", called),
    Row("offload to the CPU, merged", merged, partial(offloaded, "cpu"), step_and_output, Small),
    Row("offload to a disk, merged", merged, partial(offloaded, "disk"), step_and_output, Small),
    Row("nn.TransformerEncoderLayer in eval mode", evaluated, Encoder, outputs),
    *(
        Row(f"{kind}{then}", probe, partial(parametrised, kind), plain)
        for kind in ("weight_norm", "old weight_norm", "orthogonal", "spectral_norm")
        for then, probe, plain in (("", step, step), (", merged", merged, step_and_output))
    ),
    Row("one module under two names, merged", merged, shared, step_and_output),
    Row("copy.deepcopy", copied, plain=step),
    Row(
        "autocast around the forward pass",
        partial(autocast, False),
        tolerance=CLOSE_UNDER_AUTOCAST,
    ),
    Row("autocast around both passes", partial(autocast, True), tolerance=CLOSE_UNDER_AUTOCAST),
)
"""All rows, in the order of the table."""
