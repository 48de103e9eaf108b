"""How each library runs the attacks that `speed` compares. Loaded in the library's own interpreter.

An adapter is a function of the model and its compiled form that gives `{attack: run}`; `run(settings, x, y, target)`
returns the adversarial batch and the iterations that were run: the mean over samples for tfdefense, the gradients asked
for where a peer lets them be counted, else None. Peers get the compiled form: a bare
Keras model costs foolbox a third more.
"""

import math

import numpy as np

from evaluation.runner.peers import for_eagerpy


class Counter:
    """Stands in for a method and counts its calls."""

    def __init__(self, method):
        self.method, self.calls = method, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.method(*args, **kwargs)


def tfdefense(model, compiled, classes):
    import tfdefense as td

    def build(make, targeted=False):
        def run(settings, x, y, target):
            result = make(settings)(model, x, y, **({"target": target} if targeted else {}))
            return np.asarray(result.x_adv), float(np.mean(result.steps))

        return run

    return {
        "pgd": build(
            lambda s: td.attacks.PGD(s["epsilon"], norm="linf", steps=s["steps"], step_size=s["step_size"], schedule="fixed")
        ),
        "cw": build(lambda s: td.attacks.CarliniWagner(**s)),
        "deepfool": build(lambda s: td.attacks.DeepFool(norm="l2", **s)),
        "jsma": build(lambda s: td.attacks.JSMA(**s), targeted=True),
    }


def foolbox(model, compiled, classes):
    import foolbox as fb
    import tensorflow as tf

    for_eagerpy(np)

    def build(make):
        def run(settings, x, y, target):
            attack, epsilon = make(settings)
            calls = Counter(compiled)
            wrapped = fb.TensorFlowModel(calls, bounds=(0, 1))
            # called below the public interface, which adds one forward pass to measure the success
            labels = fb.criteria.Misclassification(tf.constant(y))
            extra = {} if epsilon is None else {"epsilon": epsilon}
            return attack.run(wrapped, tf.constant(x), labels, **extra).numpy(), calls.calls

        return run

    def pgd(s):
        return fb.attacks.LinfPGD(abs_stepsize=s["step_size"], steps=s["steps"], random_start=False), s["epsilon"]

    def carlini(s):
        return fb.attacks.L2CarliniWagnerAttack(
            binary_search_steps=s["binary_search_steps"],
            steps=s["steps"],
            stepsize=s["learning_rate"],
            initial_const=s["initial_c"],
        ), None

    def deepfool(s):
        # Its candidates count the sample's own class.
        return fb.attacks.L2DeepFoolAttack(steps=s["steps"], candidates=s["candidates"] + 1, overshoot=s["overshoot"]), None

    return {"pgd": build(pgd), "cw": build(carlini), "deepfool": build(deepfool)}


def art(model, compiled, classes):
    import tensorflow as tf
    from art.attacks import evasion
    from art.estimators.classification import TensorFlowV2Classifier

    # made once: a classifier compiles its forward pass anew
    classifier = TensorFlowV2Classifier(
        lambda x, training=False: compiled(x),
        nb_classes=classes,
        input_shape=model.inputs[0].shape[1:],
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )

    def build(make, targeted=False):
        def run(settings, x, y, target):
            attack = make({"batch_size": len(x), "verbose": False}, settings)
            labels = np.eye(classes, dtype="float32")[target if targeted else y]
            return attack.generate(x, labels), None

        return run

    def pgd(common, s):
        return evasion.ProjectedGradientDescent(
            classifier, eps=s["epsilon"], eps_step=s["step_size"], max_iter=s["steps"], **common
        )

    def carlini(common, s):
        return evasion.CarliniL2Method(
            classifier,
            learning_rate=s["learning_rate"],
            binary_search_steps=s["binary_search_steps"],
            max_iter=s["steps"],
            initial_const=s["initial_c"],
            **common,
        )

    def deepfool(common, s):
        # Fewer candidates would be those of the whole batch, nearly all classes, each at a call of its own.
        return evasion.DeepFool(classifier, max_iter=s["steps"], epsilon=s["overshoot"], nb_grads=classes, **common)

    def jsma(common, s):
        return evasion.SaliencyMapMethod(classifier, theta=s["theta"], gamma=s["gamma"], **common)

    return {"pgd": build(pgd), "cw": build(carlini), "deepfool": build(deepfool), "jsma": build(jsma, targeted=True)}


def cleverhans(model, compiled, classes):
    import tensorflow as tf
    from cleverhans.tf2.attacks import carlini_wagner_l2, projected_gradient_descent

    def pgd(s, x, y, target):
        adversarial = projected_gradient_descent.projected_gradient_descent(
            compiled,
            tf.constant(x),
            s["epsilon"],
            s["step_size"],
            s["steps"],
            math.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=tf.constant(y),
            rand_init=False,
        )
        return adversarial.numpy(), s["steps"]

    def carlini(s, x, y, target):
        # untargeted only without labels: it then takes the model's own, which are y on the samples used here
        attack = carlini_wagner_l2.CarliniWagnerL2(
            compiled,
            batch_size=len(x),
            clip_min=0.0,
            clip_max=1.0,
            binary_search_steps=s["binary_search_steps"],
            max_iterations=s["steps"],
            learning_rate=s["learning_rate"],
            initial_const=s["initial_c"],
        )
        attack.attack_step = Counter(attack.attack_step)
        return np.asarray(attack.attack(x)), attack.attack_step.calls

    return {"pgd": pgd, "cw": carlini}


ADAPTERS = {"tfdefense": tfdefense, "foolbox": foolbox, "art": art, "cleverhans": cleverhans}
