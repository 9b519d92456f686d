"""Show the averages of a bridged run in PEFT's `rankallocator`, and refuse a changed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adalora_core.errors import RunError
from adalora_core.nn.adapter_layer import FACTORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

    from adalora_core.training.adapter import Adapter
    from adalora_core.training.host import Host

_PEFT_MODULE = "peft.tuners.adalora.layer"
_AVERAGES = {"ipt": None, "exp_avg_ipt": "smoothed", "exp_avg_unc": "uncertainty"}
"""Attributes of PEFT's allocator, and of the statistics that replace it."""


class AverageView(Mapping[str, "torch.Tensor"]):
    """One average of an adapter, by PEFT's parameter names; reads the present values.

    `ipt` is |p·g| of the parameters that have a gradient now.
    """

    def __init__(self, adapter: Adapter, name: str) -> None:
        self._adapter = adapter
        self._name = name

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def _values(self) -> dict[str, torch.Tensor]:
        allocator = self._adapter.allocator
        if allocator is None:
            return {}
        names = [
            f"{matrix.path}.{factor}.{matrix.adapter_name}"
            for matrix in allocator.matrices
            for factor in FACTORS
        ]
        source = _AVERAGES[self._name]
        if source is not None:
            return dict(zip(names, getattr(allocator.statistics, source), strict=False))
        return {
            name: (each.detach() * each.grad).abs()
            for name, each in zip(names, allocator.parameters(), strict=True)
            if each.grad is not None
        }


def show_averages(tuner: Host, adapter: Adapter) -> None:
    """Let PEFT's allocator of `tuner` show the averages of `adapter`, if it trains this adapter."""
    allocator = _allocator_of(tuner, adapter)
    for name in _AVERAGES if allocator is not None else ():
        setattr(allocator, name, AverageView(adapter, name))


def follow_reset(tuner: Host, adapters: Iterable[Adapter]) -> None:
    """Begin the averages anew after a call of `reset_ipt()` on PEFT's allocator."""
    for adapter in adapters:
        allocator = _allocator_of(tuner, adapter)
        if allocator is None or isinstance(allocator.exp_avg_ipt, AverageView):
            continue
        if adapter.allocator is not None:
            adapter.allocator.statistics.release()
        show_averages(tuner, adapter)


def hand_averages_over(tuner: Host, adapters: Iterable[Adapter]) -> None:
    """Give copies of the averages to PEFT's allocator, which goes on with them."""
    for adapter in adapters:
        allocator = _allocator_of(tuner, adapter)
        for name in _AVERAGES if allocator is not None else ():
            # PEFT overwrites its sensitivities, and needs all three averages or none of a factor.
            shown = AverageView(adapter, "exp_avg_ipt" if name == "ipt" else name)
            setattr(allocator, name, {key: each.clone() for key, each in shown.items()})


def _allocator_of(tuner: Host, adapter: Adapter) -> Any:
    allocator = vars(tuner).get("rankallocator")
    return allocator if getattr(allocator, "adapter_name", None) == adapter.name else None


def refuse_changed_allocator(tuner: Host, purpose: str) -> None:
    """Refuse an allocator that was replaced, subclassed or patched: the bridge has its own.

    Raises:
        RunError: `tuner.rankallocator` is not the one that PEFT makes.
    """
    allocator = vars(tuner).get("rankallocator")
    change = None if allocator is None else _change_in(allocator)
    if change is not None:
        raise RunError(
            f"{purpose}: the rankallocator of the model is not PEFT's own ({change}), and the "
            "bridge does not call it; train without the bridge: detach(model), or uninstall()"
        )


def _change_in(allocator: Any) -> str | None:
    """Return what is not PEFT's in `allocator`."""
    for cls in type(allocator).__mro__[:-1] or (type(allocator),):
        if cls.__module__ != _PEFT_MODULE:
            return f"{cls.__module__}.{cls.__qualname__}"
        for name, member in vars(cls).items():
            # functools.wraps copies __module__, and nothing copies the globals.
            module = getattr(member, "__globals__", {}).get("__name__")
            if callable(member) and module != _PEFT_MODULE:
                return f"{name} is replaced"
    replaced = next((name for name, each in vars(allocator).items() if callable(each)), None)
    return replaced and f"{replaced} is replaced"
