"""Rank allocation: the moving averages, the schedule and the kept set of one adapter."""

from __future__ import annotations

from adalora_core.allocation.allocator import AllocationReport, RankAllocator
from adalora_core.allocation.matrix import AdaptedMatrix
from adalora_core.allocation.statistics import ImportanceStatistics

__all__ = ["AdaptedMatrix", "AllocationReport", "ImportanceStatistics", "RankAllocator"]
