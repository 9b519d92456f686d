"""Wrap a base model with an AdaLoRA adapter: training, merging, and its files."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER
from adalora_core.sharding import reshard
from adalora_core.training import saving
from adalora_core.training.adapter import check_in_place
from adalora_core.training.host import Host, model_around, register
from adalora_core.training.lora_export import export_adapter
from adalora_core.training.parallelism import refuse_merging
from adalora_core.training.run import reporting
from adalora_core.training.run_end import warn_if_unfinished
from adalora_core.training.tuner import AdaLoraTuner, merge


class AdaLoraModel(Host):
    """A base model with an AdaLoRA adapter; made by `get_peft_model` or `from_pretrained`.

    Other attributes and methods come from the base model. `base_model` is the tuner, and
    `base_model.model` the adapted model, which is changed in place.
    """

    base_model: AdaLoraTuner

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = AdaLoraTuner(model)
        register(self)

    def __new__(cls, model: nn.Module | None = None) -> Self:
        """Make an instance of a class whose `forward` shows the base model's signature."""
        if model is None:
            return super().__new__(cls)
        reporting.refuse_other_than_module(model)
        made: type[Self] = class_with_signature_of(cls, type(model))
        return super().__new__(made)

    def __getattr__(self, name: str) -> Any:
        """Forward what this class does not define to the tuner and the base model."""
        if name in reporting.OF_PEFT:
            raise AttributeError(reporting.refusal(name))
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model" or "base_model" not in self._modules:
                raise
            return getattr(self.base_model, name)

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

    @property
    def peft_config(self) -> dict[str, AdaLoraConfig]:
        """`{"default": configuration}`, with its rank pattern as it is now."""
        return self.base_model.peft_config

    # --- training -------------------------------------------------------------------------------

    def update_and_allocate(self, global_step: int) -> None:
        """Update the importance and the ranks after the 0-based optimizer step `global_step`.

        Call it once per step, after `optimizer.step()` and before `zero_grad()`.
        """
        reshard(self)
        self.base_model.update_and_allocate(global_step)

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

    def print_trainable_parameters(self) -> None:
        """Print how many parameters are trained."""
        sizes = [(each.numel(), each.requires_grad) for each in self.parameters()]
        trainable, total = sum(size for size, learns in sizes if learns), sum(s for s, _ in sizes)
        print(  # noqa: T201 - the caller wants it printed
            f"trainable params: {trainable:,d} || all params: {total:,d} || "
            f"trainable%: {100 * trainable / max(total, 1):.4f}"
        )

    # --- with and without the adapter -----------------------------------------------------------

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Disable the adapter inside the `with` block."""
        adapter = self.base_model.adapter
        was_disabled = any(layer.is_disabled for layer in adapter.layers.values())
        self.base_model.disable(True)
        try:
            yield
        finally:
            self.base_model.disable(was_disabled)

    def merge_and_unload(self, *, safe_merge: bool = False) -> nn.Module:
        """Add `scale · B diag(E) A` to the base weights; return the base model without the adapter.

        Raises:
            ValueError: with `safe_merge`, a merged weight has entries that are not finite.
            TypeError: a base layer, such as a quantised one, has no dense weight. In both cases
                nothing was merged.
        """
        tuner, adapter = self.base_model, self.base_model.adapter
        warn_if_unfinished(adapter, "merged")
        refuse_merging(adapter.layers.items())
        adapter.drop_again()
        merge(tuner.model, adapter.layers, safe=safe_merge)
        return tuner.unload()

    def unload(self) -> nn.Module:
        """Return the base model without the adapter and with its original weights."""
        return self.base_model.unload()

    # --- files ----------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        save_training_state: bool | None = None,
        is_main_process: bool = True,
        **of_peft: Any,
    ) -> None:
        """Write the adapter in PEFT's format, without dropped triplets.

        The files describe what the model computes: a dropped triplet whose singular value is not
        zero any more is written. Files are replaced after all new ones are on disk.

        Args:
            save_directory: the folder.
            save_training_state: whether this is a checkpoint, with what a resumed run needs to
                continue bit for bit; None writes that too, of an unfinished run after its first
                step. A finished run has none.
            is_main_process: whether this process writes. Under FSDP2 the first one does, and every
                process must call.
            of_peft: refused.

        Raises:
            ValueError: the folder is a file; nothing was written.
            OSError: the disk is full or not writable; nothing was replaced.
        """
        reporting.refuse_options("save_pretrained", of_peft)
        folder = Path(save_directory)
        if folder.is_file():
            raise ValueError(f"save_pretrained: {str(folder)!r} is a file, not a folder")
        saving.save_adapter(self, folder, save_training_state, is_main_process=is_main_process)

    def export_lora(
        self, save_directory: str | os.PathLike[str], *, pad_ranks: bool = False
    ) -> None:
        """Write plain LoRA with the same outputs: `lora_A = A · E · scale`, `lora_B = B`.

        Every module gets its own rank and alpha; modules at rank 0 are not written. PEFT and
        servers for LoRA load the folder.

        Args:
            save_directory: the folder to write; not the folder of the AdaLoRA adapter.
            pad_ranks: give every module the largest rank, with zeros, for loaders that take one
                rank and one alpha for all modules (TensorRT-LLM, llama.cpp).

        Raises:
            CheckpointError: no triplet is left.
            TargetError: a layer, such as a grouped convolution, cannot be written as LoRA.
            OSError: the folder cannot be written; nothing was replaced.
        """
        export_adapter(self.base_model, save_directory, pad_ranks=pad_ranks)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = DEFAULT_ADAPTER,
        is_trainable: bool = False,
        config: AdaLoraConfig | None = None,
        *,
        autocast_adapter_dtype: bool = True,
        **of_peft: Any,
    ) -> Self:
        """Return `model` with an adapter that PEFT or this package has written.

        Everything is checked before `model` is changed. If `model` has an adapter that is trained,
        or is an `AdaLoraModel`, that adapter stays, since an optimizer may hold it: it gets the
        saved values and the training state, and its model is returned.

        Args:
            model: the base model.
            model_id: the folder of one adapter.
            adapter_name: "default"; another one is refused.
            is_trainable: whether training goes on; with the training state, if there is one.
            config: the configuration to use instead of the one in the folder.
            autocast_adapter_dtype: float32 factors on a base in bfloat16 or float16.
            of_peft: refused.

        Raises:
            CheckpointError: the adapter is missing, incomplete, damaged or for another model.
            ConfigError: the configuration breaks the contract.
            ParallelismError: the factors are divided over processes, and the file has fewer
                triplets.

        Example:
            >>> import tempfile, torch
            >>> from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
            >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
            >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
            >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     loaded = AdaLoraModel.from_pretrained(base, folder)
            >>> loaded.peft_config["default"].inference_mode
            True
        """
        reporting.refuse_options("from_pretrained", of_peft, adapter_name)
        reporting.refuse_other_than_module(model)
        around: Any = model if isinstance(model, AdaLoraModel) else model_around(model)
        adapters = around.base_model.adapters if isinstance(around, AdaLoraModel) else {}
        if not any(each.is_trainable for each in adapters.values()):
            around = cls(model)
        reshard(around)
        options = {"is_trainable": is_trainable, "autocast": autocast_adapter_dtype}
        saving.load_adapter(around.base_model, Path(model_id), config=config, **options)
        return around if is_trainable else around.eval()  # type: ignore[no-any-return]


def get_peft_model(
    model: nn.Module,
    peft_config: AdaLoraConfig,
    adapter_name: str = DEFAULT_ADAPTER,
    *,
    autocast_adapter_dtype: bool = True,
    **of_peft: Any,
) -> AdaLoraModel:
    """Add an AdaLoRA adapter to `model`, in place, and return it wrapped.

    The model is for loops of torch, DDP or FSDP2. `adalora_core.peft` makes models for Trainer, and
    with several adapters.

    Args:
        model: any `nn.Module`.
        peft_config: configuration of the adapter, of this package or of PEFT. The object itself
            is kept, so that later assignments count; a model made of it before goes on with a copy.
            Its `rank_pattern` is up to date where it is read as `model.peft_config["default"]`.
        adapter_name: "default"; another one is refused.
        autocast_adapter_dtype: float32 factors on a base in bfloat16 or float16.
        of_peft: refused.

    Raises:
        ConfigError: the configuration breaks the contract.
        TargetError: a target cannot be adapted, or nothing matches; the model is unchanged.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> model(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
        >>> model.print_trainable_parameters()
        trainable params: 108 || all params: 128 || trainable%: 84.3750
    """
    reporting.refuse_options("get_peft_model", of_peft, adapter_name)
    wrapped = AdaLoraModel(model)
    config = check_in_place(peft_config)
    tuner = wrapped.base_model
    adapter = tuner.inject(config, autocast_adapter_dtype=autocast_adapter_dtype)
    if name := getattr(model, "name_or_path", None):
        config.base_model_name_or_path = name
    adapter.start_allocation()
    return wrapped


# --- classes that keep the name, the docstring and the pickling of another class -----------------

_made: dict[tuple[Callable[..., type], type, type], type] = {}
"""The results of `class_like`: two models of one class share one wrapper class."""


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
