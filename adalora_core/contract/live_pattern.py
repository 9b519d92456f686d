"""Keep the `rank_pattern` of a configuration up to date while its adapter is trained.

An allocation on a GPU must not wait for the processor, so the pattern is read when somebody asks.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from adalora_core.rank_pattern import RankPattern


class PatternSource(Protocol):
    """An adapter: knows its rank pattern."""

    config: Any

    def current_pattern(self) -> RankPattern | None:
        """Return the pattern as it is now, None if the configuration's own is right."""


_SOURCES: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""`{id of a configuration: adapter}`; a copy of a configuration follows nobody."""


def follow_pattern(config: Any, source: PatternSource) -> None:
    """Let `config.rank_pattern` be that of `source`, for as long as `source.config` is `config`."""
    _SOURCES[id(config)] = source


class LivePattern:
    """The attribute `rank_pattern` of a configuration that an adapter may keep up to date."""

    def __get__(self, config: Any, owner: type | None = None) -> RankPattern | None:
        """Return the pattern as it is now."""
        if config is None:
            # For pydantic, which collects fields from the attributes of a class.
            raise AttributeError("rank_pattern")
        source = _SOURCES.get(id(config))
        if source is not None and source.config is config:
            pattern = source.current_pattern()
            if pattern is not None:
                config.__dict__["rank_pattern"] = pattern
        return config.__dict__["rank_pattern"]  # type: ignore[no-any-return]

    def __set__(self, config: Any, value: RankPattern | None) -> None:
        """Store the pattern."""
        config.__dict__["rank_pattern"] = value
