"""Offer the surface of PEFT's `PeftModel` for a base model with AdaLoRA adapters."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from adalora_core.floor.peft_identity import SeenAsPeft
from adalora_core.sharding.layout import reshard
from adalora_core.training.adapter import check_in_place
from adalora_core.training.adapter_file.folder import DEFAULT_ADAPTER
from adalora_core.training.host import register
from adalora_core.training.model_files import AdapterFiles
from adalora_core.training.run.reporting import refuse_other_than_module
from adalora_core.training.tuner import AdaLoraTuner

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.training.compaction import CompactionReport


_made: dict[tuple[Callable[..., type], type, type], type] = {}
"""The results of `class_like`: two models of one class share one wrapper class."""


class AdaLoraModel(SeenAsPeft, AdapterFiles):
    """A base model with AdaLoRA adapters; made by `get_peft_model` or `from_pretrained`.

    Other attributes and methods come from the base model. `base_model` is the tuner, and
    `base_model.model` the adapted model, which is changed in place.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> config = AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=["0"])
        >>> model = get_peft_model(base, config)
        >>> model.get_nb_trainable_parameters()
        (36, 56)
    """

    seen_as = ("peft", "PeftModel")

    def __init__(
        self,
        model: nn.Module,
        config: AdaLoraConfig | None = None,
        adapter_name: str = DEFAULT_ADAPTER,
        *,
        autocast_adapter_dtype: bool = True,
    ) -> None:
        super().__init__()
        self.base_model = AdaLoraTuner(model)
        register(self)
        if config is not None:
            self.add_adapter(adapter_name, config, autocast_adapter_dtype=autocast_adapter_dtype)
            self.set_adapter(adapter_name)

    def __new__(cls, model: nn.Module | None = None, *_: Any, **__: Any) -> Self:
        """Make an instance of a class whose `forward` shows the base model's signature."""
        if model is None:
            return super().__new__(cls)
        refuse_other_than_module(model)
        made: type[Self] = class_with_signature_of(cls, type(model))
        return super().__new__(made)

    def __getattr__(self, name: str) -> Any:
        """Forward what this class does not define to the tuner and the base model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model" or "base_model" not in self._modules:
                raise
            return getattr(self.base_model, name)

    # --- calling --------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model.

        In training mode `outputs.loss` is the task loss plus `orthogonality_penalty()`; in
        evaluation mode it is the task loss.
        """
        return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model's `generate`."""
        generate: Any = self.get_base_model().generate
        return generate(*args, **kwargs)

    def get_base_model(self) -> nn.Module:
        """Return the adapted base model."""
        return self.base_model.model

    # --- configuration --------------------------------------------------------------------------

    @property
    def peft_config(self) -> dict[str, AdaLoraConfig]:
        """The configuration of each adapter, with its rank pattern as it is now."""
        return self.base_model.peft_config

    @property
    def active_peft_config(self) -> AdaLoraConfig:
        """The configuration of the first active adapter."""
        return self.peft_config[self.active_adapter]

    @property
    def active_adapters(self) -> list[str]:
        """The adapters that act on the output."""
        return list(self.base_model.active_adapters)

    @property
    def active_adapter(self) -> str:
        """The first active adapter.

        Raises:
            ValueError: no adapter is active.
        """
        active = self.active_adapters
        if not active:
            raise ValueError("active_adapter: no adapter is active; call set_adapter")
        return active[0]

    # --- training -------------------------------------------------------------------------------

    def update_and_allocate(self, global_step: int) -> None:
        """Update the importance and the ranks after the 0-based optimizer step `global_step`.

        Call it once per step, after `optimizer.step()` and before `zero_grad()`.
        """
        reshard(self)
        self.base_model.update_and_allocate(global_step)

    def finalize(self) -> None:
        """Enforce the target budget after training; needed if `tfinal` is 0."""
        self.base_model.finalize()

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" by a number, as `AdaLoraCallback` does."""
        self.base_model.bind_total_step(total_step)

    def compact(self, optimizer: torch.optim.Optimizer) -> CompactionReport:
        """Cut dropped triplets out of the parameters and of `optimizer`'s state, in place.

        Call it in the final phase, after `update_and_allocate` or `finalize()`. Outputs stay the
        same up to rounding. Later training equals that of the masked run if neither the penalty nor
        gradient clipping sees dropped triplets (weight 0, no clipping). Otherwise it equals a
        masked run whose penalty and clip norm count kept triplets only.

        Args:
            optimizer: the optimizer that trains the adapter. Each entry of its state must have the
                shape of the parameter or be a scalar, as in AdamW, Adam and SGD.

        Raises:
            ValueError: the kept set is not final, or the optimizer keeps other state; nothing was
                changed.

        Example:
            >>> import torch
            >>> from adalora_core import AdaLoraConfig, get_peft_model
            >>> config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
            >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
            >>> optimizer = torch.optim.AdamW(model.parameters())
            >>> model.finalize()
            >>> report = model.compact(optimizer)
            >>> report.parameters_before, report.parameters_after
            (36, 18)
        """
        return self.base_model.compact(optimizer)

    def orthogonality_penalty(self) -> torch.Tensor:
        """Return the weighted penalty that training adds to `outputs.loss`, for custom losses.

        `Σ orth_reg_weight · mean over A and B of ‖A Aᵀ - I‖_F, ‖Bᵀ B - I‖_F` (paper equation 4,
        un-squared and averaged, as PEFT does), a scalar.
        """
        return self.base_model.orthogonality_penalty()

    def add_orthogonality_gradient_(self, scale: float = 1.0) -> torch.Tensor:
        """Add the gradient of `scale * orthogonality_penalty()` to the factors' `.grad`, in place.

        `A.grad += scale · w / n · 2 (A Aᵀ - I) A / ‖A Aᵀ - I‖_F` for the n factors of an adapter of
        `orth_reg_weight` w, and the same for Bᵀ (paper equation 4, un-squared and averaged). It
        takes the place of the penalty in the loss: once per optimizer step, after the last backward
        pass and before gradients are clipped, on every process. Autograd's node for each factor,
        half of the penalty's time in a model of many small matrices, is saved.

        Args:
            scale: the scale of the loss, where gradients are scaled and not yet unscaled.

        Returns:
            `orthogonality_penalty()` without a graph.

        Raises:
            ValueError: a backward pass has added the gradient already; see
                `leave_penalty_out_of_loss`.
            ParallelismError: some factors are divided over processes and others are not.

        Example:
            >>> import torch
            >>> from adalora_core import AdaLoraConfig, get_peft_model
            >>> config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
            >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
            >>> model(torch.ones(1, 4)).sum().backward()
            >>> model.add_orthogonality_gradient_().requires_grad
            False
        """
        reshard(self)
        return self.base_model.add_orthogonality_gradient_(scale)

    def leave_penalty_out_of_loss(self) -> None:
        """Add no penalty to `outputs.loss` from now on, for `add_orthogonality_gradient_`."""
        self.base_model.leave_penalty_out_of_loss()

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return how many parameters are trained, and how many there are."""
        sizes = [(each.numel(), each.requires_grad) for each in self.parameters()]
        return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)

    def print_trainable_parameters(self) -> None:
        """Print how many parameters are trained."""
        trainable, total = self.get_nb_trainable_parameters()
        print(  # noqa: T201 - the caller wants it printed
            f"trainable params: {trainable:,d} || all params: {total:,d} || "
            f"trainable%: {100 * trainable / max(total, 1):.4f}"
        )

    # --- adapters -------------------------------------------------------------------------------

    def add_adapter(
        self, adapter_name: str, peft_config: AdaLoraConfig, *, autocast_adapter_dtype: bool = True
    ) -> None:
        """Add another adapter, which does not act before `set_adapter`."""
        tuner = self.base_model
        config = check_in_place(peft_config)
        if any(adapter.config is config for adapter in tuner.adapters.values()):
            config = copy.deepcopy(config)  # each adapter has a rank pattern of its own
        adapter = tuner.inject(adapter_name, config, autocast_adapter_dtype=autocast_adapter_dtype)
        if name := getattr(tuner.model, "name_or_path", None):
            config.base_model_name_or_path = name
        if adapter.is_trainable:
            adapter.start_allocation()

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Activate one or more adapters; those made for training learn."""
        self.base_model.set_adapter(adapter_name, inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter."""
        self.base_model.delete_adapter(adapter_name)

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Disable all adapters inside the `with` block."""
        was_disabled = self.base_model.adapters_disabled
        self.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            if not was_disabled:
                self.base_model.enable_adapter_layers()

    # --- merging --------------------------------------------------------------------------------

    def merge_adapter(
        self, adapter_names: Sequence[str] | None = None, safe_merge: bool = False
    ) -> None:
        """Add ΔW of the (active) adapters to the base weights."""
        self.base_model.merge_adapter(adapter_names, safe_merge)

    def unmerge_adapter(self) -> None:
        """Subtract every merged ΔW from the base weights."""
        self.base_model.unmerge_adapter()

    def merge_and_unload(
        self,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> nn.Module:
        """Merge the (active) adapters and return the base model without any adapter layer."""
        return self.base_model.merge_and_unload(progressbar, safe_merge, adapter_names)

    def unload(self) -> nn.Module:
        """Return the base model without any adapter layer and with its original weights."""
        return self.base_model.unload()


def get_peft_model(
    model: nn.Module,
    peft_config: AdaLoraConfig,
    adapter_name: str = DEFAULT_ADAPTER,
    mixed: bool = False,
    autocast_adapter_dtype: bool = True,
    revision: str | None = None,
    low_cpu_mem_usage: bool = False,
) -> AdaLoraModel:
    """Add an AdaLoRA adapter to `model`, in place, and return it wrapped.

    Args:
        model: any `nn.Module`.
        peft_config: configuration of the adapter, of this package or of PEFT. The object itself
            is kept, so that later assignments count; a model made of it before goes on with a copy.
            Its `rank_pattern` is up to date where it is read as `model.peft_config[adapter_name]`.
        adapter_name: name of the adapter.
        mixed: refused if True: all adapters of a model are of AdaLoRA.
        autocast_adapter_dtype: float32 factors on a base in bfloat16 or float16.
        revision: revision of the base model on the Hub, for the saved configuration.
        low_cpu_mem_usage: changes nothing: the factors are never on the meta device.

    Raises:
        ConfigError: the configuration breaks the contract.
        TargetError: a target cannot be adapted, or nothing matches; the model is unchanged.
        ValueError: `mixed` is True.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> model(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """
    del low_cpu_mem_usage
    if mixed:
        raise ValueError(
            "get_peft_model: mixed=True is for adapters of several methods in one model; here all "
            "are of AdaLoRA. Use PEFT's PeftMixedModel, or export_lora() and mix LoRA adapters"
        )
    wrapped = AdaLoraModel(
        model, peft_config, adapter_name, autocast_adapter_dtype=autocast_adapter_dtype
    )
    if revision is not None:
        wrapped.peft_config[adapter_name].revision = revision
    return wrapped


def class_with_signature_of(cls: type[nn.Module], wrapped: type[nn.Module]) -> Any:
    """Return a subclass of `cls` whose `forward` shows the signature of `wrapped.forward`.

    The name, the docstring and pickling stay those of `cls`.
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return cls.forward(self, *args, **kwargs)

    forward.__doc__ = cls.forward.__doc__
    forward.__signature__ = inspect.signature(wrapped.forward)  # type: ignore[attr-defined]
    return class_like(cls, (cls,), class_with_signature_of, wrapped, forward=forward)


def class_like(
    cls: type, bases: tuple[type, ...], make: Callable[..., type], other: type, **members: Any
) -> type:
    """Return the class of `make(cls, other)`, which has the name of `cls`; it is made once."""
    key = make, cls, other
    if key not in _made:
        namespace = {
            **members,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            # Pickle finds classes by name, and this one is not in its module: build it again.
            "__reduce_ex__": lambda self, _: (_rebuild, key, self.__dict__),
        }
        _made[key] = type(cls.__name__, bases, namespace)
    return _made[key]


def _rebuild(make: Callable[..., type], cls: type, other: type) -> Any:
    made: Any = make(cls, other)
    return made.__new__(made)
