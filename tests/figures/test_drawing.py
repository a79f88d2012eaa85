"""Figures as they are drawn and written: sizes, fonts, colours, bytes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.figures.by_hand import RECORDS, run
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import ConfigError, DataError, DependencyError
from verify_pipeline.figures import drawings, plots
from verify_pipeline.figures.descriptions import describe_stages
from verify_pipeline.figures.draw.accuracy import draw_accuracy
from verify_pipeline.figures.draw.cactus import draw_cactus
from verify_pipeline.figures.draw.stages import cost_text, draw_stages
from verify_pipeline.figures.draw.training import draw_training
from verify_pipeline.figures.files import inline_svg, save_figure
from verify_pipeline.figures.series.accuracy import AccuracyPanel, AccuracyPoint
from verify_pipeline.figures.series.cactus import CactusCurve
from verify_pipeline.figures.series.flow import StageFlow, stage_flows
from verify_pipeline.figures.series.labels import run_labels
from verify_pipeline.figures.series.training import training_curves
from verify_pipeline.figures.style import (
    FONT,
    SMALL,
    series_style,
    shortened,
    styled,
    text_width,
    wrapped,
)

matplotlib = pytest.importorskip("matplotlib")

RUNS = [run(), run(epsilon=0.2), run(seed=1), run(loss="ibp", asked=9)]
KINDS = tuple(drawings.KINDS)


def luminance(color: str) -> float:
    """Relative luminance of a colour (WCAG 2.2)."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_series_differ_without_their_colours() -> None:
    styles = [series_style(place) for place in range(60)]
    for first, second in combinations(styles, 2):
        assert (first.marker, first.dash) != (second.marker, second.dash)
    assert len({style.marker for style in styles[:12]}) == 12


def test_neighbouring_series_differ_in_grey() -> None:
    shades = [luminance(series_style(place).color) for place in range(7)]
    for first, second in combinations(range(4), 2):
        assert abs(shades[first] - shades[second]) > 0.03
    assert all(shade < 0.5 for shade in shades)  # visible on white paper


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 6.75)])
def test_figures_have_a_papers_width_and_fonts(kind: str, width: str, inches: float) -> None:
    drawing = drawings.KINDS[kind](RUNS, width)
    assert drawing.figure.get_figwidth() == inches
    texts = drawing.figure.findobj(matplotlib.text.Text)
    assert {text.get_fontsize() for text in texts if text.get_text()} <= {FONT, SMALL}
    assert drawing.title
    assert drawing.description


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stands_outside_of_a_figure(kind: str) -> None:
    figure = drawings.KINDS[kind](RUNS, "column").figure
    figure.draw_without_rendering()  # lays it out
    box = figure.get_tightbbox()
    assert -0.01 <= box.x0 <= box.x1 <= figure.get_figwidth() + 0.01
    assert -0.01 <= box.y0 <= box.y1 <= figure.get_figheight() + 0.01


def test_twelve_series_with_long_names_fit() -> None:
    name = "a network's file with a name that goes on and on, seed {}, and on $x_1$ <b>"
    curves = [CactusCurve(name.format(n), (0.1, n + 1.0), 3) for n in range(12)]
    with styled():
        figure = draw_cactus(curves)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert figure.bbox.padded(1).x0 <= box.x0 <= box.x1 <= figure.bbox.padded(1).x1
    assert figure.axes[0].get_window_extent().height > 1.2 * figure.dpi
    assert "$" in legend.get_texts()[0].get_text().replace(r"\$", "$")


def test_long_texts_give_way_in_the_middle() -> None:
    assert shortened("short", 100) == "short"
    short = shortened("digits-conv-small-cc-ibp-0.2-seed-1", 80)
    assert short.startswith("digits")
    assert short.endswith("seed-1")
    assert "…" in short
    assert text_width(short) <= 80
    assert wrapped("one two", 200) == "one two"
    assert wrapped("first second", text_width("second")) == "first\nsecond"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0123, "12 ms"), (1.25, "1.2 s"), (59.6, "60 s"), (36000.0, "10 h")],
)
def test_costs_are_readable(seconds: float | None, text: str) -> None:
    assert cost_text(StageFlow("ibp", 1, 0, 0, seconds)) == text


def test_a_point_alone_and_points_of_equal_place_are_drawn() -> None:
    point = AccuracyPoint("α = 0.5", "CC-IBP", 90.0, 60.0, 60.0, ((90.0, 60.0),))
    with styled():
        figure = draw_accuracy([AccuracyPanel("a", (point, point))])
        figure.canvas.draw()
    assert "α=0.5" in [text.get_text() for text in figure.axes[0].texts]


def test_one_epoch_is_drawn() -> None:
    row = {"epoch": 1, "train_clean": 0.5, "train_loss": 1.0, "epsilon": 0.0, "alpha": 1.0}
    with styled():
        figure = draw_training([training_curves([row], "a")])
        figure.canvas.draw()
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy [%]", "loss", "ε"]


def test_losses_that_explode_get_a_logarithmic_axis() -> None:
    rows = [{"epoch": n, "train_loss": 10.0**n} for n in (1, 2, 3)]
    with styled():
        figure = draw_training([training_curves(rows, "a")])
    assert figure.axes[0].get_yscale() == "log"


def test_accuracies_are_never_on_a_logarithmic_axis() -> None:
    rows = [{"epoch": n, "train_clean": 0.01 * 9**n, "train_loss": 1.0} for n in (0, 1, 2)]
    with styled():
        figure = draw_training([training_curves(rows, "a")])
    (accuracy, loss) = figure.axes
    assert accuracy.get_yscale() == loss.get_yscale() == "linear"
    assert accuracy.get_ylim() == (0, 100)


def test_long_titles_of_panels_stay_in_the_figure() -> None:
    name = "a network's file with a name that goes on and on and on and on"
    flows = [StageFlow("branch-and-bound", 1000, 1, 2, 4.0)]
    with styled():
        figure = draw_stages([(f"{name} {place}", flows) for place in range(2)])
        figure.draw_without_rendering()
    assert figure.get_tightbbox().x1 <= figure.get_figwidth() + 0.01
    assert all("…" in axes.get_title(loc="left") for axes in figure.axes)


def test_a_file_is_named_only_where_nothing_else_tells_runs_apart() -> None:
    def of_file(summary: Summary, name: str) -> Summary:
        return replace(summary, info=replace(summary.info, network_name=name))

    first, second = of_file(run(), "a-long-name"), of_file(run(network="x"), "another-long-name")
    assert run_labels([first, of_file(run(loss="ibp"), "b")]) == ["CC-IBP, α = 0.2", "IBP"]
    assert all("long-name" in label for label in run_labels([first, second]))


def test_the_clean_stage_finds_wrong_images_not_falsified_ones() -> None:
    words = describe_stages([("a", stage_flows(run()))])
    assert "clean: 6 images, 0 verified, 1 wrong" in words
    assert "attack: 3 images, 0 verified, 1 falsified" in words


def test_settings_of_the_user_neither_count_nor_change() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        figure = plots.plot_stages([run()])
        assert matplotlib.rcParams["font.size"] == 30
    assert figure.axes[0].get_facecolor() != (1, 0, 0, 1)


_TWICE = """
import hashlib, sys
from pathlib import Path
from tests.figures.by_hand import run
from verify_pipeline.figures import plots
from verify_pipeline.figures.files import save_figure
folder = Path(sys.argv[1])
paths = save_figure(plots.plot_stages([run()]), folder / "f", ("pdf", "svg", "png"), command="c")
assert "matplotlib.pyplot" not in sys.modules
print([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
"""


def test_the_same_verdicts_give_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    """Without pyplot, and whatever the order of hashes."""
    made = [
        subprocess.run(
            [sys.executable, "-c", _TWICE, str(tmp_path / seed)],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]


def test_files_embed_fonts_and_tell_their_command(tmp_path: Path) -> None:
    figure = plots.plot_cactus([run()])
    command = "verify-pipeline plot a.sqlite --kind cactus"
    pdf, svg, png = save_figure(
        figure, tmp_path / "v1.2", ("pdf", "svg", "png"), title="T", command=command
    )
    assert [path.name for path in (pdf, svg, png)] == ["v1.2.pdf", "v1.2.svg", "v1.2.png"]
    content = pdf.read_bytes()
    assert b"/FontFile2" in content  # TrueType outlines: type 42
    assert b"/Type3" not in content
    for text in (b"CreationDate", b"ModDate"):
        assert text not in content
    for path in (pdf, svg, png):
        assert command.encode() in path.read_bytes(), path.name
    assert b"<dc:date>" not in svg.read_bytes()


def test_a_path_with_its_ending_needs_no_format(tmp_path: Path) -> None:
    (path,) = save_figure(plots.plot_cactus([run()]), tmp_path / "a.svg")
    assert path == tmp_path / "a.svg"
    with pytest.raises(ConfigError, match="expected pdf or svg or png; got 'tiff'"):
        save_figure(plots.plot_cactus([run()]), tmp_path / "a.tiff")
    with pytest.raises(DataError, match="file"):
        save_figure(plots.plot_cactus([run()]), path / "b.svg")


def test_inline_figures_share_a_page() -> None:
    figure = plots.plot_stages([run()])
    first, second = (inline_svg(figure, name, "a < b", "c & d") for name in ("one", "two"))
    ids = [
        {element.attrib["id"] for element in ET.fromstring(text).iter() if "id" in element.attrib}
        for text in (first, second)
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, known in zip((first, second), ids, strict=True):
        root = ET.fromstring(text)
        used = [e.attrib["href"] for e in root.iter() if "href" in e.attrib]
        assert used
        assert {each.removeprefix("#") for each in used} <= known
        assert set(root.attrib["aria-labelledby"].split()) <= known
        names = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not names & {"style", "metadata", "script", "image"}
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "#000000" not in text
        assert "currentColor" in text
        assert "#ffffff" not in text  # the page's background shows through
    with pytest.raises(ConfigError, match="name of an inline figure"):
        inline_svg(figure, 'a"b', "", "")


def test_what_is_left_out_is_told() -> None:
    with pytest.warns(UserWarning, match=r"Not drawn, as it is not finished: IBP\."):
        plots.plot_accuracy([run(), run(loss="ibp", asked=9)], literature=())
    with pytest.warns(UserWarning, match=r"Not finished, 6 of 9 images"):
        plots.plot_stages([run(asked=9)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("results", [[], [run([], asked=5)]])
def test_without_verdicts_there_is_nothing_to_draw(kind: str, results: list[object]) -> None:
    with pytest.raises(DataError, match=f"figure {kind}; expected"):
        drawings.KINDS[kind](results, "column")  # type: ignore[arg-type]


def test_too_many_runs_are_refused() -> None:
    runs = [run(seed=seed) for seed in range(13)]
    with pytest.raises(ConfigError, match="at most 12 runs; got 13"):
        plots.plot_stages(runs)
    with pytest.raises(ConfigError, match="expected column or page; got 'wide'"):
        plots.plot_stages([run()], width="wide")  # type: ignore[arg-type]


def test_images_that_are_all_wrong_have_no_cactus() -> None:
    with pytest.raises(DataError, match="classified rightly"):
        plots.plot_cactus([run(RECORDS[:1])])


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"pip install 'verify_pipeline\[plots\]'"):
        plots.plot_stages([run()])
