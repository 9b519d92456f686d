"""The rank heat map: every module finds its cell, every cell shows its number."""

from __future__ import annotations

import matplotlib.axes
import pytest

from adalora_core import AdaLoraConfig
from adalora_core.commands.rank_report.heatmap import rank_figure, rank_heatmap, rank_table
from adalora_core.commands.rank_report.report import rank_report

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PATTERN = {"layers.0.q.lora_E": [True] * 8 + [False] * 4}
RANKS = {
    f"encoder.layer.{layer}.{kind}": 2 * layer for layer in range(12) for kind in ("q", "v.out")
}


def test_rank_table_orders_layers_as_numbers():
    kinds, layers, cells = rank_table(dict(reversed(RANKS.items())))
    assert layers == [str(layer) for layer in range(12)]
    assert sorted(kinds) == ["q", "v.out"]
    assert cells["v.out", "11"] == 22


def test_rank_table_of_encoder_and_decoder_keeps_them_apart():
    ranks = {"encoder.block.0.layer.0.q": 1, "decoder.block.0.layer.0.q": 2}
    kinds, layers, cells = rank_table(ranks)
    assert kinds == ["encoder.block: layer.0.q", "decoder.block: layer.0.q"]
    assert layers == ["0"]
    assert sorted(cells.values()) == [1, 2]


def test_labels_of_long_paths_differ_where_the_paths_differ():
    long = "a." * 100
    ranks = {f"{begin}.{long}0.{long}{end}": 1 for begin in "ed" for end in "qv"}
    axes = rank_figure(ranks, init_r=8, title="").axes[0]
    labels = {each.get_text() for each in axes.get_yticklabels()}
    assert len(labels) == 4
    assert {label[0] + label[-1] for label in labels} == {"eq", "ev", "dq", "dv"}


def test_rank_table_puts_modules_without_a_layer_last():
    _, layers, cells = rank_table({"lm_head": 3, "layers.0.q": 1, "layers.10.q": 2})
    assert layers == ["0", "10", "-"]
    assert cells["lm_head", "-"] == 3


def test_rank_heatmap_shows_the_number_of_every_cell(monkeypatch):
    written = []
    original = matplotlib.axes.Axes.text

    def record(self, x, y, text, **style):
        written.append((x, y, text))
        return original(self, x, y, text, **style)

    monkeypatch.setattr(matplotlib.axes.Axes, "text", record)
    ranks = {"layers.0.q": 7, "layers.1.q": 0, "layers.1.v": 3}
    assert rank_heatmap(ranks, init_r=8, title="").startswith(PNG_SIGNATURE)
    assert written == [(0, 0, "7"), (1, 0, "0"), (1, 1, "3")]


def test_colour_of_rank_0_is_not_that_of_the_page_also_where_it_is_inverted():
    image = rank_figure({"layers.0.q": 0, "layers.1.q": 8}, init_r=8, title="").axes[0].images[0]
    colour = image.cmap(image.norm(0))[:3]
    assert max(1 - each for each in colour) > 0.2


def test_rank_heatmap_without_modules_says_why():
    with pytest.raises(ValueError, match="at least one module, got none"):
        rank_heatmap({}, init_r=8, title="")


def test_report_is_written_through_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    folder = tmp_path / "report"
    folder.mkdir()
    names = ("rank_heatmap.png", "rank_report.md")
    for name in names:
        (folder / name).symlink_to(victim)
        (folder / f".{name}.partial").symlink_to(victim)
    rank_report(AdaLoraConfig(total_step=1000, rank_pattern=PATTERN), name="a").write(folder)
    assert victim.read_text() == "kept"
    assert not any((folder / name).is_symlink() for name in names)
