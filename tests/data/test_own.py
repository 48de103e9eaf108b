import numpy as np
import pytest
from PIL import Image

from tfdefense import data

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, size=(50, 6, 5, 3), dtype="uint8")
Y = np.arange(50) % 5


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz"


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz_without_splits_is_divided_once_and_for_all(tmp_path, names):
    path = saved(tmp_path, **dict(zip(names, (X, Y), strict=True)))
    train, test, everything = (data.load(path, split, dtype="uint8") for split in ("train", "test", "all"))
    assert (len(train), len(test)) == (40, 10)
    assert np.bincount(test.y).tolist() == [2] * 5
    np.testing.assert_array_equal(everything.x, X)
    both = np.concatenate([train.x, test.x])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in X)
    assert train.name == str(path) and train.classes == ("0", "1", "2", "3", "4")


def test_npz_with_splits_keeps_them(tmp_path):
    path = saved(tmp_path, x_train=X[:30], y_train=Y[:30, None], x_test=X[30:] / 255, y_test=Y[30:, None])
    train, test = data.load(str(path)), data.load(str(path), "test", dtype="uint8")
    np.testing.assert_array_equal(train.x, X[:30].astype("float32") / 255)
    np.testing.assert_array_equal(test.x, X[30:])
    np.testing.assert_array_equal(test.y, Y[30:])


def test_npz_class_names(tmp_path):
    named = data.load(saved(tmp_path, x=X, y=np.array(["cat", "dog"])[Y % 2]), "all")
    assert named.classes == ("cat", "dog") and (named.y == Y % 2).all()
    listed = data.load(saved(tmp_path, x=X, y=Y, classes=list("vwxyz")), "all")
    assert listed.classes == tuple("vwxyz") and (listed.y == Y).all()


def test_classes_are_numbered_over_both_splits(tmp_path):
    path = saved(tmp_path, x_train=X[:2], y_train=["cat", "dog"], x_test=X[:1], y_test=["dog"])
    assert data.load(path, "test").y.tolist() == [1]


def test_grey_images_get_a_channel(tmp_path):
    assert data.load(saved(tmp_path, x=X[..., 0], y=Y), "all").x.shape == (50, 6, 5, 1)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": X, "labels": Y}, "must hold the arrays x and y.*Received: labels, x"),
        ({"x": X * 1.0, "y": Y}, r"floats in \[0, 1\].*rescale"),
        ({"x": np.full((50, 2, 2), np.nan), "y": Y}, "without NaN"),
        ({"x": X.astype("int32") + 1, "y": Y}, r"in \[1, 256\]"),
        ({"x": X.reshape(50, -1), "y": Y}, r"\(N, H, W\)"),
        ({"x": X[:0], "y": Y[:0]}, "no images"),
        ({"x": X, "y": np.eye(5)[Y]}, "argmax"),
        ({"x": X, "y": Y[:-1]}, r"Received: shape=\(49,\)"),
        ({"x": X, "y": Y - 1}, "integers from 0"),
        ({"x": X, "y": Y / 2}, "integers from 0"),
        ({"x": X, "y": Y, "classes": ["a"]}, "names 1 classes"),
        ({"x": np.array([{}]), "y": Y}, "Python objects"),
    ],
)
def test_npz_error_says_what_was_expected(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        data.load(saved(tmp_path, **arrays))


def test_too_few_images_to_divide(tmp_path):
    with pytest.raises(ValueError, match="split='all'"):
        data.load(saved(tmp_path, x=X[:2], y=Y[:2]), "test")


def write(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")


def test_folder_has_one_class_for_each_sub_folder(tmp_path):
    write(tmp_path / "dog", X[:10])
    write(tmp_path / "cat", X[10:20])
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    images = data.load(tmp_path, "all", dtype="uint8")
    assert images.classes == ("cat", "dog")
    np.testing.assert_array_equal(images.x, np.concatenate([X[10:20], X[:10]]))
    assert images.y.tolist() == [0] * 10 + [1] * 10
    assert np.bincount(data.load(tmp_path, "test").y).tolist() == [2, 2]


def test_folder_with_splits_keeps_them(tmp_path):
    write(tmp_path / "train" / "cat", X[:3])
    write(tmp_path / "train" / "dog", X[3:6])
    write(tmp_path / "val" / "dog", X[6:8])
    assert len(data.load(tmp_path)) == 6 and len(data.load(tmp_path, "all")) == 8
    test = data.load(tmp_path, "test", dtype="uint8")
    np.testing.assert_array_equal(test.x, X[6:8])
    assert test.y.tolist() == [1, 1] and test.classes == ("cat", "dog")


def test_grey_folder_has_one_channel_and_a_mixed_one_three(tmp_path):
    write(tmp_path / "grey" / "a", X[:5, ..., 0])
    assert data.load(tmp_path / "grey", "all").x.shape == (5, 6, 5, 1)
    write(tmp_path / "grey" / "b", X[:5])
    assert data.load(tmp_path / "grey", "all").x.shape == (10, 6, 5, 3)


def test_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="one sub-folder for each class"):
        data.load(tmp_path)
    write(tmp_path / "a", [X[0], X[0, :3]])
    with pytest.raises(ValueError, match="01.png.*Resize"):
        data.load(tmp_path, "all")
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(ValueError, match="Expected an .npz"):
        data.load(tmp_path / "mine.csv")


def test_pictures_in_the_folder_itself_are_read_where_nobody_needs_classes(tmp_path):
    for number in range(10):
        Image.fromarray(np.full((4, 4), 20 * number, "uint8")).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match="have no classes: they do where none are needed"):
        data.load(tmp_path, "all")
    found = data.load(tmp_path, "all", labels=False)
    assert found.classes == () and found.x.shape == (10, 4, 4, 1) and found.y.tolist() == list(range(10))
    parts = [data.load(tmp_path, part, labels=False) for part in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2]
    assert sorted(np.concatenate([part.y for part in parts])) == list(range(10))
    assert data.load(tmp_path, "all", labels=False, classes=["cat", "dog"], limit=3).x.shape == (3, 4, 4, 1)
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((4, 4), "uint8")).save(tmp_path / "cat" / "1.png")
    assert data.load(tmp_path, "all", labels=False).classes == ("cat",), "sub-folders are classes"
