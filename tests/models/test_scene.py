import keras
import numpy as np
import pytest

import tfdefense as td
from models.scene import depth_net, resnet_scene, vgg_scene
from tfdefense.data.rendering import render_scene


@pytest.mark.parametrize("options", [{}, {"edges": False, "shrink": 1}], ids=str)
def test_detectors_find_their_layers(options):
    model = vgg_scene((64, 64, 4), width=2, **options)
    assert model.outputs[0].shape == (None, 2)
    defended = td.SafetyNet(["fc7", "fc6", "pool5"], threshold=0.0).attach(model)
    branch = td.AdversaryDetector("pool2", width=2).attach(model)
    assert set(defended.output) == set(branch.output) == {"scores", "suspicion", "label"}


def test_width_scales_the_filters_and_edges_add_what_is_seen():
    narrow, wide = (vgg_scene(width=width) for width in (4, 8))
    assert [model.get_layer("fc7").output.shape[-1] for model in (narrow, wide)] == [64, 128]
    assert wide.get_layer("pool5").output.shape == (None, 1, 2, 64)
    assert narrow.get_layer("seen").output.shape == (None, 96, 128, 9)
    assert vgg_scene(width=4, edges=False, shrink=1).get_layer("pool5").output.shape == (None, 3, 4, 32)


def test_edges_of_picture_and_depth_meet_where_both_are():
    model = vgg_scene((64, 64, 4), width=1)
    pair = np.zeros((1, 64, 64, 4), "float32")
    pair[:, :, 20:, :3], pair[:, :40, :, 3] = 1, 0.5
    seen = keras.Model(model.inputs[0], model.get_layer("seen").output)(pair).numpy()[0, ..., 4:]
    assert (seen[:, 19, 0] > 0.98).all() and (seen[39, :, 1] > 0.98).all() and seen[39, 19, 2] > 0.98
    # Depth is smoothed by three pixels.
    assert seen[..., 2].sum() == pytest.approx(seen[38:41, 19, 2].sum()) and (seen[38:41, 19, 2] > 0.9).all()


def test_noise_of_the_last_bits_is_no_edge_of_depth():
    model = vgg_scene((64, 64, 4), width=1)
    pair = np.full((1, 64, 64, 4), 0.5, "float32")
    pair[..., 3] += np.random.default_rng(0).choice([-1, 1], (1, 64, 64)) / 255
    seen = keras.Model(model.inputs[0], model.get_layer("seen").output)(pair).numpy()[0, ..., 5]
    assert np.median(seen) < 0.03


def test_line_that_both_planes_share_is_seen_and_a_short_one_is_not():
    model = vgg_scene((64, 64, 4), width=1)
    seen = keras.Model(model.inputs[0], model.get_layer("seen").output)
    pair = np.zeros((2, 64, 64, 4), "float32")
    pair[0, 20:50, 20:50] = 1
    pair[1, 20:23, 20:23] = 1
    frame, dot = seen(pair).numpy()[..., 7:].max((1, 2))
    assert (frame > 0.9).all() and (dot < 0.5).all()


def test_depth_that_was_moved_fits_where_it_is_moved_back():
    model = vgg_scene((64, 64, 4), width=1)
    fit = keras.Model(model.inputs[0], model.get_layer("norm_overall_fit").input)
    rng = np.random.default_rng(0)
    plane = np.kron(rng.random((1, 16, 16)), np.ones((1, 4, 4)))[..., None]
    pair = np.concatenate([plane, plane, plane, plane], -1).astype("float32")
    assert fit(pair).numpy()[0].argmax() == 0
    pair[..., 3] = np.roll(pair[..., 3], 10, axis=1)
    assert fit(pair).numpy()[0].argmax() != 0


def test_model_survives_saving(tmp_path):
    for model in (vgg_scene((64, 64, 4), width=1), resnet_scene((64, 64, 4), depth=8, width=1), depth_net((32, 64, 3), width=1)):
        x = np.random.default_rng(0).random((2, *model.inputs[0].shape[1:]), dtype="float32")
        model.save(tmp_path / "model.keras")
        np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), model(x), atol=1e-6)


def test_depth_is_as_large_as_the_picture_and_within_bounds():
    for options in ({}, {"shrink": 1}):
        model = depth_net((32, 64, 3), width=2, **options)
        out = model(np.random.default_rng(0).random((2, 32, 64, 3), dtype="float32")).numpy()
        assert out.shape == (2, 32, 64, 1) and 0 <= out.min() and out.max() <= 1
        seen = model.get_layer("placed").output.shape[1:3]
        assert seen == ((16, 32) if not options else (32, 64))


@pytest.mark.long
@pytest.mark.slow
def test_depth_is_learned_of_a_handful_of_pictures():
    keras.utils.set_random_seed(0)
    rooms = np.stack([render_scene(np.random.default_rng(number), (32, 32)) for number in range(4)]) / np.float32(255)
    model = depth_net((32, 32, 3), width=4, dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-2), "mean_absolute_error", jit_compile=False)
    losses = model.fit(rooms[..., :3], rooms[..., 3:], batch_size=4, epochs=40, verbose=0).history["loss"]
    usual = np.abs(rooms[..., 3:] - np.median(rooms[..., 3:], 0)).mean()
    assert losses[-1] < 0.5 * losses[0] and losses[-1] < 0.5 * usual, "the median of each pixel is no guess at a room"


@pytest.mark.parametrize("options", [{}, {"edges": False, "shrink": 1}], ids=str)
def test_residual_network_has_its_stages(options):
    model = resnet_scene((64, 64, 4), depth=14, width=2, **options)
    assert model.outputs[0].shape == (None, 2)
    side = 32 if not options else 64
    shapes = [model.get_layer(f"stage_{stage}").output.shape[1:] for stage in (1, 2, 3)]
    assert shapes == [(side, side, 2), (side // 2, side // 2, 4), (side // 4, side // 4, 8)]
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 6
    assert set(td.AdversaryDetector("stage_2", width=2).attach(model).output) == {"scores", "suspicion", "label"}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: vgg_scene((48, 128, 4)), r"at least 64 pixels a side. Received \(48, 128, 4\)"),
        (lambda: depth_net((112, 128, 3)), r"multiples of 32. Received \(112, 128, 3\)"),
        (lambda: resnet_scene(depth=10), r"6n \+ 2: 8, 14, .* Received 10"),
        (lambda: resnet_scene((48, 128, 4)), r"at least 64 pixels a side. Received \(48, 128, 4\)"),
    ],
)
def test_wrong_sizes_are_one_sentence(build, words):
    with pytest.raises(ValueError, match=words):
        build()
