"""For `speed_defenses`: what a step of dynamic adversary training costs, beside its parts measured alone.

A step may cost what the adversary's passes do (forward and two backward runs of the defended model a step, on the half of
the batch that is attacked) and 1.5 plain training steps of classifier and detector together.
"""

import time

WATCHED = {"mnist": ("conv_2", 24), "digits": ("conv_1", 8)}
BATCH, STEPS, EPSILON = 128, 10, 0.2


def seconds(run, repeats):
    """CPU seconds of one run, all threads of the process included."""
    run()
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def measure(model_path, dataset, data_dir, repeats=5):
    """CPU seconds of a detector step, of a plain step of both networks, of one look of the adversary, of a classifier's pass."""
    import keras
    import tensorflow as tf

    import tfdefense as td
    from tfdefense import data

    train = data.load(dataset, "train", data_dir=data_dir, limit=BATCH)
    x, y = tf.constant(train.x), tf.constant(train.y)
    layer, width = WATCHED[dataset]

    def attached():
        model = keras.models.load_model(model_path, compile=False)
        return model, td.AdversaryDetector(layer, width=width, depth=4, seed=0, threshold=0.0).attach(model)

    model, defended = attached()
    trainer = td.DetectorTraining(defended, td.attacks.DynamicAdversary(EPSILON, steps=STEPS, schedule="fixed"))
    trainer.compile()
    whole = attached()[1]
    whole.compile(
        "adam",
        loss={
            "scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "suspicion": keras.losses.BinaryCrossentropy(from_logits=True),
        },
        jit_compile=False,
    )
    both = {"scores": train.y, "suspicion": (train.y % 2).astype("float32")}

    @tf.function
    def look(x, y):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = defended(x, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs["scores"])
        return tape.gradient(loss, x), tape.gradient(outputs["suspicion"], x)

    @tf.function
    def one_pass(x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        return tape.gradient(loss, x)

    half = BATCH // 2
    return {
        "step": seconds(lambda: trainer.train_on_batch(train.x, train.y), repeats),
        "plain": seconds(lambda: whole.train_on_batch(train.x, both), repeats),
        "look": seconds(lambda: look(x[:half], y[:half])[1].numpy(), repeats),
        "pass": seconds(lambda: one_pass(x, y).numpy(), repeats),
    }


def add_rows(context, found):
    """The cost in passes of the classifier: of a step, of its adversary, of a plain step, and what it may be."""
    parts = {"step": found["step"], "adversary": STEPS * found["look"], "plain step": found["plain"]}
    parts["limit"] = parts["adversary"] + 1.5 * parts["plain step"]
    for name, seconds in parts.items():
        context.row("speed.detector", "passes", seconds / found["pass"], system=name, steps=STEPS, n=BATCH)
    context.row("speed.detector", "CPU seconds", found["pass"], of="a pass", n=BATCH)
