"""Pairs of picture and depth, and their forgeries: what each changes, that it follows from the seed, and the ray-caster."""

import numpy as np
import pytest

from tfdefense.data import scenes
from tfdefense.data.images import Images
from tfdefense.data.rendering import _nearest, render_scene

KINDS = (*scenes.FAMILIAR, *scenes.UNFAMILIAR)


@pytest.fixture(scope="module")
def pairs():
    """Rendered rooms stand in for captured ones."""
    return np.stack([render_scene(np.random.default_rng(number), (32, 48)) for number in range(12)])


@pytest.fixture(scope="module")
def guessed(pairs):
    return np.random.default_rng(0).random((*pairs.shape[:3], 1)).astype("float32")


def forged(pairs, kind, guessed=None, **options):
    return scenes.whole(scenes.forge(pairs, kind, predicted=guessed, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_forgery_follows_from_seed_and_row_alone(kind, pairs, guessed):
    whole, again = (scenes.forge(pairs, kind, predicted=guessed, seed=3) for _ in range(2))
    assert whole.shape == pairs.shape and whole.dtype == np.float32 and 0 <= whole.min() and whole.max() <= 1
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_array_equal(scenes.forge(pairs, kind, predicted=guessed, seed=3, rows=[7, 2]), whole[[7, 2]])
    np.testing.assert_array_equal(whole, scenes.as_in_files(whole))
    assert (whole != pairs / np.float32(255)).any((1, 2, 3)).all(), "a forgery differs from its pair"
    if kind not in ("predicted", "no depth"):
        assert (scenes.forge(pairs, kind, seed=4) != whole).any()


def test_floats_and_bytes_give_the_same_forgery(pairs):
    np.testing.assert_array_equal(scenes.forge(pairs / 255, "inserted"), scenes.forge(pairs, "inserted"))


def test_files_hold_colours_in_8_bits_and_depth_in_16():
    values = np.random.default_rng(0).random((2, 5, 7, 4))
    found = scenes.as_in_files(values)
    np.testing.assert_allclose(255 * found[..., :3], np.rint(255 * values[..., :3]), atol=1e-4)
    np.testing.assert_allclose(65535 * found[..., 3].astype("float64"), np.rint(65535 * values[..., 3]), atol=5e-3)
    np.testing.assert_array_equal(scenes.as_in_files(found), found)
    np.testing.assert_array_equal(scenes.as_in_files(values[..., 3:]), found[..., 3:])
    np.testing.assert_array_equal(scenes.as_in_files(values[..., :3]), found[..., :3])
    every = np.arange(65536, dtype="float64")[:, None, None] / 65535
    assert (np.rint(scenes.as_in_files(every).astype("float64") * 65535).ravel() == np.arange(65536)).all(), "none is lost"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("no depth", "low-quality jpeg")])
def test_forgeries_keep_all_16_bits_of_depth(kind, pairs):
    fine = scenes.spread(pairs)
    made = scenes.forge(fine, kind, predicted=fine[::-1, ..., 3:])
    parts = np.rint(made[..., 3].astype("float64") * 65535)
    assert (parts % 257 != 0).mean() > 0.9, "257 of them are a part of 255"


def test_what_8_bits_lost_is_drawn_alike_for_real_and_guessed_depth(pairs, guessed):
    fine, guess = scenes.spread(pairs), scenes.spread(guessed, seed=1)
    np.testing.assert_array_equal(scenes.whole(fine), pairs)
    np.testing.assert_array_equal(scenes.whole(guess), scenes.whole(guessed))
    for found in (fine[..., 3:], guess):
        off = 255 * found.astype("float64") - np.rint(255 * found)
        assert abs(off.mean()) < 0.01 and off.std() == pytest.approx(12**-0.5, rel=0.02), "uniform within a step"
    np.testing.assert_array_equal(fine, scenes.spread(pairs / np.float32(255)))
    assert (fine != scenes.spread(pairs, seed=2))[..., 3].any() and not scenes.spread(np.zeros_like(pairs)).any()


def test_swapped_depth_is_that_of_another_scene(pairs):
    made = forged(pairs, "swapped")
    np.testing.assert_array_equal(made[..., :3], pairs[..., :3])
    for row, one in enumerate(made):
        (found,) = np.flatnonzero((pairs[..., 3] == one[..., 3]).all((1, 2)))
        assert min((found - row) % 12, (row - found) % 12) >= 5, "no neighbour, which may show the same room"


def test_predicted_and_missing_depth_leave_the_picture(pairs, guessed):
    made, none = forged(pairs, "predicted", guessed), forged(pairs, "no depth")
    np.testing.assert_array_equal(made, np.concatenate([pairs[..., :3], scenes.whole(guessed)], -1))
    np.testing.assert_array_equal(none[..., :3], pairs[..., :3])
    assert not none[..., 3].any()


def test_inserted_is_one_rectangle_of_another_pair_in_both_planes(pairs):
    for row, one in enumerate(forged(pairs, "inserted")):
        changed = (one != pairs[row]).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert any((one[window] == other[window]).all() for other in pairs)
        assert 0.05 < changed[window].size / changed.size < 0.4


def test_misaligned_depth_lies_elsewhere():
    """On a ramp in the picture and in depth, the two tell where each came from; the same seed moves both ramps alike."""
    moved = []
    for ramp in np.mgrid[:96, :128]:
        pair = np.repeat((ramp * 2)[..., None], 4, -1).astype("uint8")
        made = forged(np.repeat(pair[None], 40, 0), "misaligned").astype(float)
        moved.append(np.abs(made[..., 0] - made[..., 3]).mean((1, 2)) / 2)
    farther = np.maximum(*moved)
    assert farther.min() > 4 and np.median(farther) > 8


def test_misaligned_planes_are_both_resized(pairs):
    """A plane that is resized alone would give a forgery away without a look at the other."""

    def repeated(plane):
        rows, columns = (plane[1:] == plane[:-1]).all((1, 2)).sum(), (plane[:, 1:] == plane[:, :-1]).all((0, 2)).sum()
        return rows + columns

    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 4)).astype("uint8")
    made = forged(noise, "misaligned")
    assert all(repeated(one[..., 3:]) >= 5 for one in made) and all(repeated(one[..., 3:]) == 0 for one in noise)
    zoomed = scenes.zoomed_pair(noise[0], np.random.default_rng(0))
    assert zoomed.shape == noise[0].shape and repeated(zoomed[..., 3:]) >= 5


def test_resampled_holds_blocks_and_jpeg_both_planes(pairs):
    for one in forged(pairs, "resampled"):
        assert any((one[factor - 1 : 2 * factor - 1 : factor] == one[:factor:factor]).all() for factor in (2, 3, 4))
        assert len(np.unique(one[..., 3], axis=0)) <= 16
    made = forged(pairs, "low-quality jpeg")
    for plane in (np.s_[..., :3], np.s_[..., 3]):
        change = np.abs(made[plane].astype(int) - pairs[plane]).mean()
        assert 0.3 < change < 30


def test_real_and_forged_are_balanced_and_the_kinds_take_turns(pairs, guessed):
    found = scenes.real_and_forged(pairs, predicted=guessed)
    assert found.x.shape == (24, 32, 48, 4) and found.y.tolist() == [scenes.REAL] * 12 + [scenes.FORGED] * 12
    np.testing.assert_array_equal(scenes.whole(found.x[:12]), pairs)
    kinds, counts = np.unique(found.kind[12:], return_counts=True)
    assert set(kinds) == set(scenes.FAMILIAR) and set(counts) == {3}
    for row in (12, 17):
        own = scenes.forge(pairs, found.kind[row], predicted=guessed, rows=[found.source[row]])
        np.testing.assert_array_equal(found.x[row], own[0])


def test_varied_twins_are_of_the_same_view(pairs):
    x, y = scenes.twins(pairs, [3, 5, 8], ["no depth"] * 3, seed=1, vary=True)
    assert y.tolist() == [1, 0, 1, 0, 1, 0]
    np.testing.assert_array_equal(x[0::2, ..., :3], x[1::2, ..., :3])
    assert (scenes.whole(x[0::2]) != pairs[[3, 5, 8]]).any((1, 2, 3)).all()
    for real, row in zip(scenes.whole(x[0::2]), (3, 5, 8), strict=True):
        assert set(np.unique(real[..., 3])) <= set(np.unique(pairs[row, ..., 3])), "depth has no new values"


def test_what_comes_from_another_scene_is_varied_alike(pairs):
    """Else a forgery would show by planes that were resized by different shares."""
    for row in range(4):
        made = scenes.forge(pairs, "swapped", seed=5, rows=[row], vary=True)[0]
        alike = [scenes.vary_pair(other, np.random.default_rng([5, row, 0])) for other in pairs]
        assert any(np.array_equal(made[..., 3], other[..., 3]) for other in alike)


def test_stream_repeats_for_a_seed_and_forges_anew_in_each_epoch(pairs):
    def epochs(seed):
        made = scenes.stream(pairs, ("swapped", "inserted"), batch_size=8, seed=seed)
        return [[(x.numpy(), y.numpy()) for x, y in made] for _ in range(2)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert [x.shape for x, _ in first[0]] == [(8, 32, 48, 4)] * 3
    assert all((y == [1, 0] * 4).all() for _, y in first[0])
    for (a, _), (b, _) in zip(first[0] + first[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0][0][0] != first[1][0][0]).any() and (first[0][0][0] != other[0][0][0]).any()


def test_stream_leaves_out_no_pair_and_follows_its_own_seed_alone(pairs):
    import tensorflow as tf

    def epoch(seed_of_tensorflow):
        tf.random.set_seed(seed_of_tensorflow)
        return np.concatenate([x for x, _ in scenes.stream(pairs, "no depth", vary=False)])

    first, again = epoch(0), epoch(1)
    np.testing.assert_array_equal(first, again)
    assert sorted(one.tobytes() for one in scenes.whole(first[::2])) == sorted(one.tobytes() for one in pairs)


def test_what_a_stream_cannot_forge_is_said_before_it_starts(pairs):
    with pytest.raises(ValueError, match="needs `predicted`"):
        scenes.stream(pairs)
    with pytest.raises(ValueError, match="must be among"):
        scenes.stream(pairs, "stolen")


def test_views_of_one_room_stay_together():
    index = np.random.default_rng(0).permutation(200)
    images = Images(index[:, None, None, None], index, (), "pairs", "train", (0, 255))
    ordered = scenes.by_scene(images)
    assert sorted(ordered.y) == list(range(200)) and (ordered.x.ravel() == ordered.y).all()
    groups = ordered.y // 20
    assert (np.diff(groups) != 0).sum() == 9 and (groups != np.sort(groups)).any()


def test_a_room_ends_where_the_index_jumps():
    index = np.concatenate([np.arange(7), np.arange(9, 12), np.arange(40, 65)])
    drawn = np.random.default_rng(0).permutation(index)
    ordered = scenes.by_scene(Images(drawn[:, None, None, None], drawn, (), "pairs", "train", (0, 255))).y
    starts = ordered[np.flatnonzero(np.diff(ordered, prepend=-9) != 1)]
    assert {0, 9} < set(starts.tolist()) <= {0, 9, 40, 60} and sorted(ordered) == index.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("swaped",), "`kind` must be among 'swapped', .*Received: 'swaped'"),
        (("predicted",), r"needs `predicted`, a depth map a pair: \(12, 32, 48, 1\). Received None"),
    ],
)
def test_wrong_kinds_are_one_sentence(pairs, arguments, words):
    with pytest.raises(ValueError, match=words):
        scenes.forge(pairs, *arguments)
    with pytest.raises(ValueError, match="must hold two scenes or more. Received one"):
        scenes.forge(pairs[:1], "swapped")


def test_ray_meets_the_nearest_box_and_the_wall_behind():
    low, high = np.array([[-2.0, 0, -1], [-0.5, 0, 2]]), np.array([[2.0, 3, 5], [0.5, 2, 3]])
    rays = np.array([[[0.0, 0, 1], [0.6, 0, 0.8], [0, 1, 0]]])
    distance, box, face = _nearest(np.array([0.0, 1, 0]), rays, low, high)
    np.testing.assert_allclose(distance, [[2.0, 2 / 0.6, 2.0]])
    assert box.tolist() == [[1, 0, 0]] and face.tolist() == [[2, 0, 1]]


def test_rendered_depth_belongs_to_the_picture():
    rooms = np.stack([render_scene(np.random.default_rng(number), (48, 64)) for number in range(20)])
    assert rooms.dtype == np.uint8 and rooms[..., 3].min() > 0
    assert (np.median(rooms[..., 3], (1, 2)) > 40).all() and (rooms[..., 3].std((1, 2)) > 3).all()
    # Where depth jumps the picture changes more than elsewhere.
    jump = np.abs(np.diff(rooms[..., 3].astype(int), axis=2)) > 15
    change = np.abs(np.diff(rooms[..., :3].mean(-1), axis=2))
    assert change[jump].mean() > 3 * change[~jump].mean()
