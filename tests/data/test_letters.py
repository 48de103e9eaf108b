import numpy as np
import pytest

from tfdefense import data
from tfdefense.data.letters import FONTS


@pytest.mark.parametrize("name", ["letters", "letters8"])
def test_letters_can_be_read_in_fonts_never_seen(name):
    from sklearn.neighbors import KNeighborsClassifier

    train, test = data.load(name), data.load(name, "test")
    classifier = KNeighborsClassifier(3).fit(train.x.reshape(len(train), -1), train.y)
    assert classifier.score(test.x.reshape(len(test), -1), test.y) > 0.92


def test_train_and_test_share_no_font():
    assert len(FONTS["train"]) == 16 and len(FONTS["test"]) == 6
    assert not set(FONTS["train"]) & set(FONTS["test"])


def test_same_seed_draws_the_same_letters():
    x, y = data.draw_letters(50, size=12, seed=5)
    again, labels = data.draw_letters(50, size=12, seed=5)
    other, _ = data.draw_letters(50, size=12, seed=6)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
    assert abs(x - other).mean() > 0.05
    assert x.shape == (50, 12, 12, 1) and x.dtype == np.float32 and np.bincount(y).tolist() == [5] * 10


def test_letters_vary_in_weight_contrast_and_place():
    x, y = data.draw_letters(2000, seed=1)
    x = x[y == 8, :, :, 0]
    ink, brightest = x.sum(axis=(1, 2)), x.max(axis=(1, 2))
    assert ink.max() > 3 * ink.min()
    assert 0.5 < brightest.min() < 0.7 < 0.95 < brightest.max() <= 1
    middle = (x.sum(axis=1) * np.arange(28)).sum(axis=1) / ink
    assert 0.5 < middle.std() < 2.5 and abs(middle.mean() - 13.5) < 0.7


def test_letters_are_white_on_black():
    x, _ = data.draw_letters(300)
    border = np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1)
    assert border.mean() < 0.04 and x[:, 8:20, 8:20].mean() > 0.25


@pytest.mark.parametrize("wrong", [{"split": "all"}, {"size": 3}])
def test_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        data.draw_letters(10, **wrong)
