"""For `evaluation/dustbin.py`: attacks by someone who knows the network and its dustbin (row O9)."""


def white_box(model, naive, sizes, search, steps, x, y):
    """Which samples a search takes from the sample itself, and which from any start, within each of the growing sizes."""
    import numpy as np

    found, first, taken = {}, np.zeros(len(x), bool), np.zeros(len(x), bool)
    for size in sizes:
        # Whoever was taken within a smaller size is within this one.
        first |= SEARCHES[search](size, steps, ("sample",))(model, x, y, only=~first).success
        taken |= first
        taken |= SEARCHES[search](size, steps, starts_of(model, naive))(model, x, y, only=~taken).success
        found[f"{size:g}"] = {"sample": first.tolist(), "all": taken.tolist()}
    return found


def _pgd(objective):
    def make(size, steps, starts):
        from tfdefense import attacks

        return attacks.PGD(size, steps=steps, objective=getattr(attacks, objective)(), starts=starts, early_stop=True)

    return make


def _selective(size, steps, starts):
    from tfdefense.attacks import OrthogonalPGD

    return OrthogonalPGD(size, steps=steps, starts=starts)


# Of a network without a dustbin, which rejects nothing, the last is the first.
SEARCHES = {"Evade": _pgd("Evade"), "log-sum-exp": _pgd("LogSumExp"), "selective": _selective}


def starts_of(model, naive):
    """All starts but the sample; the undefended network's example also from the naive one, which was trained without a dustbin."""
    from tfdefense.attacks import Of

    return ("interpolated", "random") if model is naive else ("base", Of(naive), "interpolated", "random")


def carlini(model, naive, quick, x, y):
    """C&W on the network as it is: which samples it takes at any distance, and how far that is in l2 and in linf."""
    import numpy as np

    from tfdefense.attacks import CarliniWagner, MaximumConfidence, Of

    length = {"steps": 60, "binary_search_steps": 3} if quick else {"steps": 200, "binary_search_steps": 5}
    starts = ("sample",) if model is naive else ("sample", "base", Of(naive))
    found = CarliniWagner(starts=starts, objective=MaximumConfidence(), **length)(model, x, y)
    largest = np.abs(found.x_adv - x).reshape(len(x), -1).max(1)
    return {"success": found.success.tolist(), "l2": found.distance.tolist(), "linf": largest.tolist()}
