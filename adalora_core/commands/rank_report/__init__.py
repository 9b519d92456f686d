"""Show the rank of every matrix as a heat map and a table, from a configuration alone."""

from __future__ import annotations

from adalora_core.commands.rank_report.heatmap import draw_rank_heatmap
from adalora_core.commands.rank_report.report import write_rank_report

__all__ = ["draw_rank_heatmap", "write_rank_report"]
