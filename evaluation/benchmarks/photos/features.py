"""What the body makes of images, computed once, and what it says of the thousand classes of ImageNet."""

import numpy as np


def thousand(model, classes):
    """Kernel and bias of ImageNet's logits as a pair, and the columns that are these classes."""
    from tfdefense.zoo import imagenet

    names = imagenet.class_names()
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(f"Expected classes that ImageNet has. Received {', '.join(missing)}.")
    return tuple(np.asarray(weight) for weight in model.get_layer("logits").weights), [names.index(name) for name in classes]


def features(context, body, x):
    """What the body makes of images, computed once."""
    from tfdefense import _cache
    from tfdefense._untrusted import read_arrays

    path = context.cache.parent / "features" / f"{_cache.content(body, x)}.npz"

    def write(new):
        context.say(f"features of {len(x)} images")
        np.savez(new, features=body.predict(x, batch_size=32, verbose=0))

    return _cache.entry(path, write, lambda file: read_arrays(file)[0]["features"])
