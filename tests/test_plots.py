import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from tfdefense import metrics, plots
from tfdefense.plots import drawings

FLAT = metrics.SecurityCurve([0, 1, 2], [[1, 0.5, 0]], [[0, 0, 0]], [[0, 0.5, 1]])
RAGGED = metrics.SecurityCurve([0, 2, 4], [[1, 0.8, 0.2], [1, 0.4, 0]], [[0, 0.3, 0.1], [0, 0.1, 0]], [[0, 0.2, 0.8], [0, 0.6, 1]])
OUTCOMES = {
    "clean": metrics.Outcomes.of([0] * 90 + [-1] * 8 + [1] * 2, [0] * 100),
    "FGSM": metrics.Outcomes.of([0] * 20 + [-1] * 50 + [1] * 30, [0] * 100),
}
DISTORTION = metrics.distortion(
    np.zeros((4, 4)), np.array([[1], [0.5], [2], [9]]) * np.ones(4) / 2, success=[True, True, True, False]
)
RANKED = metrics.risk_coverage([1.0, 2.0, 3.0, 4.0], [False, True, False, True])
X = np.linspace(0, 1, 4 * 36).reshape(4, 6, 6)
X_ADV = np.clip(X + 0.04 * np.where(np.arange(36).reshape(6, 6) % 2, 1, -1), 0, 1)

FIGURES = {
    "security_curve": lambda path=None: plots.security_curve({"DNN": FLAT, "DNR": RAGGED}, path),
    "outcome_bars": lambda path=None: plots.outcome_bars(OUTCOMES, path),
    "roc": lambda path=None: plots.roc({"a": metrics.roc([0, 1, 2], [1.5, 2, 3]), "bb": metrics.roc([0], [0])}, path),
    "roc, log": lambda path=None: plots.roc({"a": metrics.roc([0, 1, 2], [1.5, 2, 3])}, path, log=True),
    "risk_coverage": lambda path=None: plots.risk_coverage({"energy": RANKED, "knn": RANKED}, path),
    "distortion": lambda path=None: plots.distortion({"CE": DISTORTION}, path),
    "detectability": lambda path=None: plots.detectability({"fast": [(0.6, 0.7), (0.3, 0.9)]}, path),
    "examples": lambda path=None: plots.examples(X, X_ADV, [0, 1, 2, 3], [0, -1, 1, 8], path),
}


def legend_texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_saved_with_ink_and_leaves_settings_alone(name, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name](tmp_path / "figure.png")
    assert isinstance(figure, Figure) and dict(matplotlib.rcParams) == before
    image = imread(tmp_path / "figure.png")[..., :3]
    assert min(image.shape[:2]) > 200
    assert 0.01 < (image.min(axis=2) < 0.9).mean() < 0.9
    assert (np.ptp(image, axis=2) > 0.2).any()  # some of it in colour


def test_figures_are_not_saved_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FIGURES["outcome_bars"]()
    assert not list(tmp_path.iterdir())


def test_palette_has_no_twins():
    assert len(set(plots.PALETTE)) == len(set(plots.MARKERS)) == 7


def test_security_curve_draws_accuracy_band_and_rejection():
    (axes,) = FIGURES["security_curve"]().axes
    flat, ragged, rejection = axes.lines
    assert flat.get_ydata().tolist() == [1, 0.5, 0] and flat.get_linestyle() == "-"
    np.testing.assert_allclose(ragged.get_ydata(), [1, 0.6, 0.1])
    np.testing.assert_allclose(rejection.get_ydata(), [0, 0.2, 0.05])
    assert ragged.get_xdata().tolist() == [0, 2, 4]
    assert rejection.get_linestyle() == "--" and rejection.get_color() == ragged.get_color() != flat.get_color()
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    assert len(bands) == 2
    assert bands[0].ymin == pytest.approx(0)  # 0.1 - 0.14 is cut at 0
    assert bands[1].ymax == pytest.approx(0.2 + 0.2 / np.sqrt(2))
    assert legend_texts(axes) == ["DNN", "DNR", "accuracy", "rejection"]
    assert axes.get_xlim() == (0, 4)


def test_security_curve_without_rejection_does_not_explain_it():
    (axes,) = plots.security_curve({"DNN": FLAT}).axes
    assert len(axes.lines) == 1 and legend_texts(axes) == ["DNN"]
    (axes,) = plots.security_curve({"DNR": RAGGED}, rejection=False).axes
    assert len(axes.lines) == 1 and legend_texts(axes) == ["DNR"]


def test_outcome_bars_stack_to_one():
    (axes,) = FIGURES["outcome_bars"]().axes
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(3, 2)
    np.testing.assert_allclose(widths, [[0.9, 0.2], [0.08, 0.5], [0.02, 0.3]])
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches[-2:]]
    np.testing.assert_allclose(ends, 1)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["clean", "FGSM"]
    assert sorted(text.get_text() for text in axes.texts) == ["20", "30", "50", "8", "90"]  # 2 % has no room
    assert legend_texts(axes) == ["right", "rejected", "wrong"]


def test_roc_draws_the_rates_and_names_the_area():
    curve = metrics.roc([0, 1, 2], [1.5, 2, 3])
    (axes,) = plots.roc({"a": curve, "bb": metrics.roc([0], [0])}).axes
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), curve.fpr)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curve.tpr)
    assert legend_texts(axes) == ["a   0.833", "bb  0.500"]


def test_risk_coverage_draws_the_risk_and_names_the_area():
    (axes,) = FIGURES["risk_coverage"]().axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 0.5, 1 / 3, 0.5])
    assert legend_texts(axes) == ["energy  0.3333", "knn     0.3333"]


def test_roc_on_a_log_scale():
    (axes,) = FIGURES["roc, log"]().axes
    assert axes.get_xscale() == "log" and axes.get_xlim() == (0.1, 1)


def test_distortion_draws_the_cumulative_success():
    (axes,) = FIGURES["distortion"]().axes
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.5, 1, 2, 2.1])
    np.testing.assert_allclose(line.get_ydata(), [0, 0.25, 0.5, 0.75, 0.75])
    assert axes.lines[1].get_xdata() == [1] and axes.get_xlabel() == "l2 distance"
    (axes,) = plots.distortion({"CE": DISTORTION}, rms=True).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata()[1:4], 255 * np.array([0.25, 0.5, 1]))


def test_distortion_of_an_attack_that_failed_is_a_line_at_zero():
    failed = metrics.distortion(np.zeros((2, 4)), np.ones((2, 4)), success=[False, False])
    (axes,) = plots.distortion({"CE": failed}).axes
    assert axes.lines[0].get_ydata().tolist() == [0, 0]


def test_more_lines_than_colours_are_told_apart():
    names = [f"model {i}" for i in range(14)]
    (axes,) = plots.distortion(dict.fromkeys(names, DISTORTION)).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines if line.get_label() in names}) == 14
    (axes,) = plots.detectability(dict.fromkeys(names, [(0.5, 0.5)])).axes
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines if line.get_label() in names}) == 14


def test_distortion_does_not_mix_norms():
    other = metrics.distortion(np.zeros((2, 4)), np.ones((2, 4)), success=[True, True], norm="l1")
    with pytest.raises(ValueError, match="l1, l2"):
        plots.distortion({"a": DISTORTION, "b": other})


def test_detectability_draws_the_points_and_chance():
    (axes,) = FIGURES["detectability"]().axes
    chance, fast = axes.lines
    assert list(chance.get_ydata()) == [0.5, 0.5]
    assert fast.get_xdata().tolist() == [0.6, 0.3] and fast.get_ydata().tolist() == [0.7, 0.9]
    assert legend_texts(axes) == ["fast"]
    (axes,) = plots.detectability({"fast": [(0.6, 0.12)]}).axes
    assert axes.get_ylim()[0] <= 0.12
    with pytest.raises(ValueError, match="Divide percentages"):
        plots.detectability({"fast": [(60, 70)]})


def test_examples_show_three_rows_on_fixed_scales():
    figure = FIGURES["examples"]()
    assert len(figure.axes) == 12
    images = [axes.images[0] for axes in figure.axes]
    assert {image.get_clim() for image in images} == {(0, 1)}
    assert [images[i].get_cmap().name for i in (0, 4, 8)] == ["gray", "RdBu_r", "gray"]
    np.testing.assert_allclose(images[1].get_array(), X[1])
    np.testing.assert_allclose(images[5].get_array(), 0.5 + 0.5 * 20 * (X_ADV - X)[1])
    np.testing.assert_allclose(images[11].get_array(), X_ADV[3])
    assert [figure.axes[i].get_ylabel() for i in (0, 4, 8)] == ["clean", "change ×20", "adversarial"]
    labels = [axes.xaxis.label for axes in figure.axes[8:]]
    assert [label.get_text() for label in labels] == ["0 → 0", "1 → rejected", "2 → 1", "3 → 8"]
    colours = [to_hex(label.get_color()).upper() for label in labels]
    assert colours == [plots.RIGHT, plots.FAINT, plots.WRONG, plots.WRONG]


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_take_channels_bounds_and_names(channels):
    x, x_adv = (np.repeat(v[..., None], channels, axis=-1) * 255 for v in (X, X_ADV))
    names = ["cat", "dog", "ox", "automobile"]
    figure = plots.examples(x, x_adv, [0, 1, 2, 3], [1, 1, -1, 2], bounds=(0, 255), magnify=4, class_names=names, columns=2)
    assert len(figure.axes) == 6
    shape = (6, 6, 3) if channels == 3 else (6, 6)
    middle = figure.axes[2].images[0].get_array()
    assert middle.shape == shape
    np.testing.assert_allclose(middle, (0.5 + 2 * (x_adv - x)[0] / 255).reshape(shape))
    assert figure.axes[2].get_ylabel() == "change ×4"
    assert figure.axes[4].get_xlabel() == "cat → dog"


def test_examples_refuse_what_they_cannot_draw():
    y = [0, 1, 2, 3]
    with pytest.raises(ValueError, match="one shape"):
        plots.examples(X, X_ADV[:, :5], y, y)
    with pytest.raises(ValueError, match="Rescale"):
        plots.examples(X, X_ADV * 255, y, y)
    with pytest.raises(ValueError, match="equal lengths"):
        plots.examples(X, X_ADV, y, y[:3])
    with pytest.raises(ValueError, match="height, width"):
        plots.examples(X.reshape(4, 36), X_ADV.reshape(4, 36), y, y)


@pytest.mark.parametrize("largest, factor", [(0, 1), (1, 1), (0.6, 1), (0.5, 2), (0.2, 5), (0.11, 5), (0.1, 10), (0.03, 20)])
def test_magnification_is_round_and_clips_nothing(largest, factor):
    assert drawings.round_factor(largest) == factor


@pytest.mark.parametrize("draw", [plots.security_curve, plots.outcome_bars, plots.roc, plots.risk_coverage, plots.distortion])
@pytest.mark.parametrize("bad", [{}, [FLAT], FLAT])
def test_figures_ask_for_names(draw, bad):
    with pytest.raises(ValueError, match="dict from a name"):
        draw(bad)


def test_a_long_legend_leaves_room_for_the_axes():
    figure = plots.detectability({f"an adversary with a long name, {i}": [(0.5, 0.5)] for i in range(7)})
    figure.draw_without_rendering()
    box = figure.axes[0].get_position()
    assert figure.axes[0].get_legend().get_window_extent().width < figure.bbox.width
    assert box.width > 0.6 and box.height > 0.4
    figure = plots.detectability({f"{'a long name ' * 4}{i}": [(0.5, 0.5)] for i in range(9)})
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().height > 2 * figure.dpi


def test_embedding_has_a_group_for_each_class_and_refuses_what_is_no_plane():
    points, y = np.arange(24.0).reshape(12, 2), np.arange(12)
    figure = plots.embedding(points, y, class_names=[f"class {i}" for i in y])
    axes = figure.axes[0]
    assert len(axes.collections) == 12
    np.testing.assert_array_equal(axes.collections[3].get_offsets(), points[3:4])
    assert axes.get_legend().get_texts()[11].get_text() == "class 11"
    with pytest.raises(ValueError, match=r"shape \(n, 2\). Received \(12, 3\)"):
        plots.embedding(np.zeros((12, 3)), y)
    with pytest.raises(ValueError, match="equal lengths"):
        plots.embedding(points, y[:5])


def test_matrix_writes_each_share_and_refuses_others(tmp_path):
    figure = plots.matrix([[0.9, 0.5], [0.25, 1.0]], ["a", "b"], ["c", "d"], tmp_path / "m.png", ylabel="fitted on")
    assert [text.get_text() for text in figure.axes[0].texts] == ["90", "50", "25", "100"]
    assert (tmp_path / "m.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"`values` must be shares of shape \(1, 2\). Received shape \(2, 2\)"):
        plots.matrix([[0.9, 0.5], [0.25, 1.0]], ["a"], ["c", "d"])
    with pytest.raises(ValueError, match="must be shares"):
        plots.matrix([[90]], ["a"], ["c"])
