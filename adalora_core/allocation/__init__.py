"""Rank allocation: the moving averages and the kept set of one adapter, step by step."""

from __future__ import annotations

from adalora_core.allocation.allocator import AdaptedMatrix, AllocationReport, RankAllocator
from adalora_core.allocation.statistics import ImportanceStatistics

__all__ = ["AdaptedMatrix", "AllocationReport", "ImportanceStatistics", "RankAllocator"]
