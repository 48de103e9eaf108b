"""The attacks of foolbox and ART on logits with a class of rejection. Loaded in an interpreter that has these libraries.

Each adapter gives `{attack: tries}`; `tries(x, y, norm, size)` yields functions `points(rows)` of what an attempt finds for these
rows of x. So each attempt is made on what the earlier ones have left.
"""

import types

import numpy as np
import tensorflow as tf

from evaluation.runner.peers import for_eagerpy

PGD_STEPS, PGD_STEP = 40, 0.1
DDN_STEPS, DDN_TARGETS = 100, 4
APGD_STEPS, APGD_TARGETS = 50, 4


def targets(logits, x, y, number):
    """The likeliest wrong classes of each sample, the likeliest first: arrays like y."""
    scores = np.array(logits(tf.constant(x)))[:, :-1]
    scores[np.arange(len(y)), y] = -np.inf
    return scores.argsort(axis=1)[:, ::-1][:, : min(number, logits.classes - 1)].T


def foolbox(logits):
    import foolbox as fb

    for_eagerpy(np)
    model = fb.TensorFlowModel(logits, bounds=(0, 1))

    def run(attack, x, criterion, **size):
        # Below the public interface, which measures the success once more.
        return attack.run(model, tf.constant(x), criterion, **size).numpy()

    def aimed(target):
        return fb.criteria.TargetedMisclassification(tf.constant(target))

    def pgd(x, y, norm, size):
        make = fb.attacks.LinfPGD if norm == "linf" else fb.attacks.L2PGD
        attack = make(rel_stepsize=PGD_STEP, steps=PGD_STEPS, random_start=False)
        for target in targets(logits, x, y, logits.classes):
            yield lambda rows, target=target: run(attack, x[rows], aimed(target[rows]), epsilon=size)

    def ddn(x, y, norm, size):
        attack = fb.attacks.DDNAttack(steps=DDN_STEPS, init_epsilon=size)
        yield lambda rows: run(attack, x[rows], fb.criteria.Misclassification(tf.constant(y[rows])))
        for target in targets(logits, x, y, DDN_TARGETS):
            yield lambda rows, target=target: run(attack, x[rows], aimed(target[rows]))

    return {"DDN": ddn, "targeted PGD": pgd}


def art(logits):
    from art.attacks import evasion
    from art.estimators.classification import TensorFlowV2Classifier

    if not hasattr(tf.keras.losses, "Reduction"):  # Keras 3 has plain words in its place, which ART asks for by the old names
        words = types.SimpleNamespace(NONE="none", SUM="sum", SUM_OVER_BATCH_SIZE="sum_over_batch_size")
        tf.keras.losses.Reduction = words
    classifier = TensorFlowV2Classifier(
        logits,
        nb_classes=logits.classes + 1,
        input_shape=tuple(logits.shape),
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )

    def apgd(x, y, norm, size):
        attack = evasion.AutoProjectedGradientDescent(
            classifier,
            norm=np.inf if norm == "linf" else 2,
            eps=size,
            eps_step=2 * size,
            max_iter=APGD_STEPS,
            targeted=True,
            nb_random_init=1,
            batch_size=256,
            verbose=False,
        )
        for target in targets(logits, x, y, APGD_TARGETS):
            yield lambda rows, target=target: attack.generate(x[rows], np.eye(logits.classes + 1, dtype="float32")[target[rows]])

    return {"targeted APGD": apgd}


ADAPTERS = {"foolbox": foolbox, "art": art}
