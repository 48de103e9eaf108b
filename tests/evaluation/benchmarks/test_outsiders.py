import json

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from evaluation.benchmarks.outsiders import own, protocol, starts
from evaluation.benchmarks.outsiders.logits import Logits
from evaluation.benchmarks.outsiders.tables import outsiders
from evaluation.benchmarks.outsiders.worker import shortened
from evaluation.benchmarks.zoo import packed
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tfdefense import zoo

NAME = "digits_cnn.dnr"


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME)


def test_last_logit_leads_exactly_where_the_model_rejects(model, held_out):
    noise = np.random.default_rng(0).random((100, 8, 8, 1), dtype="float32")
    x = np.concatenate([held_out.x[:200], noise, 0.5 * held_out.x[:100] + 0.5 * noise]).astype("float32")
    logits, label = Logits(model, held_out.x[:200]), np.asarray(model(x)["label"])
    assert 0.1 < np.mean(label == -1) < 0.9, "both must be among them"
    np.testing.assert_array_equal(logits.decide(x), np.where(label == -1, 10, label))


def test_model_without_a_gradient_gets_the_surrogates(classifier, digits, held_out, model):
    coded = td.SafetyNet(["features"]).attach(classifier)
    x_adv = td.attacks.FGSM(0.2)(classifier, digits.x[:200], digits.y[:200]).x_adv
    td.adapt(coded, digits.x[:200], digits.y[:200], adversarial=x_adv, calibration=held_out.x, max_rejected=0.05)
    logits, x = Logits(coded, held_out.x[:100]), tf.constant(held_out.x[:50])
    assert logits.surrogate and not Logits(model, held_out.x[:100]).surrogate
    with tf.GradientTape() as tape:
        tape.watch(x)
        rejection = logits(x)[:, -1] - tf.reduce_max(logits(x)[:, :-1], axis=1)
    assert np.mean(np.abs(tape.gradient(rejection, x)).sum((1, 2, 3)) > 0) > 0.5
    label = np.asarray(coded(x)["label"])
    np.testing.assert_array_equal(logits.decide(x.numpy()), np.where(label == -1, 10, label))


class Fixed:
    """A model that gives each pixel's label by its value."""

    def predict(self, x, **options):
        return {"label": np.nan_to_num(np.round(x[:, 0] * 10)).astype(int) - 1}


@pytest.mark.parametrize(
    "point, breaks",
    [(0.4, True), (0.4 + 1e-7, True), (0.41, False), (0.25, False), (0.0, False)],
    ids=["on the sphere", "rounded", "beyond it", "its own label", "rejected"],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_judge_counts_what_is_wrong_and_within_the_ball(point, breaks, norm):
    x = np.array([[0.2]] if point else [[0.05]])
    label = np.array([1])
    found = protocol.judge(Fixed(), x, label, np.array([[point]]), norm, 0.2)
    assert found.tolist() == [breaks]


def test_judge_refuses_what_is_no_image():
    x = np.array([[0.95]])
    assert protocol.judge(Fixed(), x, np.array([1]), np.array([[1.0]]), "linf", 0.2)
    assert not protocol.judge(Fixed(), x, np.array([1]), np.array([[1.1]]), "linf", 0.2)
    assert not protocol.judge(Fixed(), x, np.array([1]), np.array([[np.nan]]), "linf", 0.2)


@pytest.mark.parametrize("norm, length", [("linf", 0.3), ("l2", 0.5)])
def test_what_a_minimum_norm_attack_found_is_brought_into_the_ball(norm, length):
    x, point = np.full((1, 2, 1, 1), 0.5, "float32"), np.array([0.8, 0.9], "float32").reshape(1, 2, 1, 1)
    half = shortened(x, point, norm, length / 2)
    expected = [0.65, 0.65] if norm == "linf" else [0.65, 0.7]
    np.testing.assert_allclose(half.ravel(), expected, atol=1e-6)


def corner(x):
    """Two classes and rejection: the wrong one leads, unrejected, where both pixels are above 0.6."""
    away = x[:, :, 0, 0] - 0.6
    scores = tf.stack([-away[:, 0], away[:, 0]], axis=1) * 10
    return tf.concat([scores, tf.reduce_max(scores, 1, keepdims=True) - 10 * away[:, 1:]], axis=1)


@pytest.mark.parametrize("loss", list(own.LOSSES))
@pytest.mark.parametrize("norm, distance", [("linf", 0.4), ("l2", 0.5)])
def test_own_attack_finds_the_corner_that_is_not_rejected(loss, norm, distance):
    x = np.array([0.2, 0.3], "float32").reshape(1, 2, 1, 1)  # 0.4 and 0.3 from it
    attack = own.Attack(corner, x.shape[1:], norm, loss)
    y = np.array([0], "int32")
    found, done = attack(x, y, x, 1.03 * distance, 50)
    assert done.all() and (found > 0.6).all()
    assert not attack(x, y, x, 0.99 * distance, 50)[1].any()


def test_starts_are_of_other_classes_the_nearest_first():
    pool, classes = np.array([0.1, 0.4, 0.5, 0.9], "float32").reshape(4, 1, 1, 1), np.array([0, 1, 1, 2])
    near = starts.nearest(np.full((1, 1, 1, 1), 0.12, "float32"), np.array([0]), pool, classes, 5)
    np.testing.assert_allclose(np.ravel(near), [0.4, 0.9])


def rows(tmp_path, share, claimed, **changes):
    context = Context("outsiders", "digits", False, None, None, tmp_path, tmp_path)
    card = zoo.card(NAME)
    # The card has more samples: of the others all withstood, which must not count.
    withstood = packed(np.append(np.arange(100) < 100 * claimed, np.ones(397, bool)))
    card.attacked[:] = [{"suite": "s", "steps": 5, "norm": "l2", "epsilon": 0.5, "withstood": withstood, "n": 497}]
    found = {"left": {"0.5": {"foolbox PGD": 0.9, "own script": share}}, "errors": {}, "surrogate": False}
    found |= {"versions": {"foolbox": "1", "art": "1"}} | changes
    protocol.add_rows(context, card, "l2", 100, found)
    return Results({"rows": [row.plain() for row in context.rows]})


@pytest.mark.parametrize("claimed, beaten", [(0.52, False), (0.53, True), (0.4, False)])
def test_card_that_claims_more_than_outsiders_leave_is_flagged(tmp_path, claimed, beaten):
    found = rows(tmp_path, 0.5, claimed)
    row = found.one(attack="worst case")
    assert row.value == 0.5 and row.flags == ((protocol.BEATEN,) if beaten else ()) and found(attack="card") == claimed
    *_, line = outsiders(found).splitlines()
    remark = protocol.BEATEN if beaten else "-"
    assert line == f"| {NAME} | l2 0.5 | 0.9 | 0.5 | {claimed} | {0.5 - claimed:.4g} | {remark} |"


@pytest.mark.parametrize("changes", [{"versions": {"art": "1"}}, {"errors": {"own script, 0.5": "no result in 1 s"}}])
def test_number_without_one_of_the_attacks_is_flagged(tmp_path, changes):
    assert rows(tmp_path, 0.5, 0.5, **changes).one(attack="worst case").flags == (protocol.LEFT_OUT,)


def test_samples_are_the_cards_and_points_outside_of_the_ball_count_for_nothing(tmp_path, monkeypatch):
    asked = []

    class Scripted:
        """One attack that finds nothing within the ball, then one that fails, then one that breaks the first sample left."""

        def __init__(self, name, python, module, arguments, limit):
            _, samples, self.folder = arguments
            with np.load(samples) as file:
                self.x, self.y, self.known = file["x"], file["y"], file["train_x"]
            names = ["far", "broken", "near"]
            self.trouble = None
            self.about = {"versions": {"foolbox": "1", "art": "1"}, "attacks": {"linf": names, "l2": names}, "surrogate": False}

        def ask(self, attack, norm, size, rows):
            asked.append((norm, size, attack, len(rows)))
            if attack == "broken":
                return {"error": "ValueError"}
            other = self.x[[np.flatnonzero(self.y != self.y[row])[0] for row in rows]]
            path = f"{self.folder}/found.npz"
            np.savez(path, x_adv=other if attack == "far" else self.x[rows])
            return {"file": path}

        def stop(self):
            asked.append("stopped")

    monkeypatch.setattr(results, "UNTRACKED", tmp_path)
    monkeypatch.setattr(protocol, "Library", Scripted)
    about = {"dataset": "digits", "quick": True, "samples": 12, "data_dir": None, "output": None}
    path = command.execute("outsiders", protocol, **about, only=NAME, peers_python=None, limit=1)
    found = Results(json.loads(path.read_text()))
    clean = found(attack="far", norm="l2", epsilon=0.5)
    assert clean == found(attack="worst case", norm="linf", epsilon=0.2) > 0.9
    assert found.one(attack="broken", norm="l2", epsilon=1.0).note == "ValueError"
    assert found.settings["foolbox"] == "1" and asked.count("stopped") == 2
