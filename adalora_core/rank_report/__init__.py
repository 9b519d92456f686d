"""Where the rank of an adapter went: a heat map and a table, from its configuration alone."""

from __future__ import annotations

from adalora_core.rank_report.heatmap import draw_rank_heatmap
from adalora_core.rank_report.report import write_rank_report

__all__ = ["draw_rank_heatmap", "write_rank_report"]
