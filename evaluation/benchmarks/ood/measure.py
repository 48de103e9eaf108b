"""What the OOD board finds of each system, on samples as they are and under attack: parts whose results are JSON."""

import json
import time

import numpy as np

from evaluation.benchmarks.ood.rates import Rates
from evaluation.benchmarks.ood.search import ACCEPT, REJECT, Search, spreads
from evaluation.benchmarks.ood.systems import LEADERS, every

NEAR, FAR = "near", "far"
# A longer search may bring the mean AUROC down by so much before it is told.
MORE = 0.02
METRICS = {"auroc": "AUROC", "fpr": "FPR at 95 % TPR"}


def groups(setup):
    return {NEAR: setup.near, FAR: setup.far}


def network(study):
    """How often the network alone is right, and of how many known samples."""
    from tfdefense.calibration import run_batches

    (logits,) = run_batches(study.head, study.features(study.test.x))
    return {"accuracy": float((logits.argmax(1) == study.test.y).mean()), "n": len(logits)}


def clean(study, name):
    """Known samples and OOD images as they are, of each set and of near and far ones on average."""
    begun, setup, system = time.process_time(), study.setup, every()[name]
    known = study.judged(system, study.test.x)
    ood = {name: study.judged(system, study.ood(name)) for name in setup.sets}
    suspicion = {name: one.suspicion for name, one in ood.items()}
    rates, found = Rates(known.suspicion, suspicion), {}
    for name, sets in {**{name: (name,) for name in setup.sets}, **groups(setup)}.items():
        about = {metric: rates.of(metric, sets) for metric in METRICS}
        shares = [float((ood[one].label == -1).mean()) for one in sets]
        found[name] = about | {"rejected": float(np.mean(shares)), "n": sum(len(suspicion[one]) for one in sets)}
    right = known.label == study.test.y
    known = {"accuracy": float(right.mean()), "rejected": float((known.label == -1).mean()), "n": len(right)}
    return {"known": known, "ood": found, "choice": choice(study, system), "CPU seconds": time.process_time() - begun}


def choice(study, system):
    """AUROC on samples that stand in no other number, by which one is chosen for the zoo: the held-out known ones against images
    that only the dustbin was trained on. None for the dustbin."""
    if system.dustbin:
        return None
    known, ood = (study.judged(system, x).suspicion for x in (study.held_out.x, study.exposed()))
    value, interval = Rates(known, {"": ood}).of("auroc", [""])
    return {"auroc": value, "interval": interval, "n": len(known) + len(ood)}


def few(study):
    """The OOD images that are attacked: half near ones, half far ones, of each set the first ones. Images, and the set of each."""
    half, found = study.setup.attacked // 2, []
    for sets in groups(study.setup).values():
        shares = [max(1, half // len(sets) + (number < half % len(sets))) for number in range(len(sets))]
        found += [(name, study.ood(name)[:share]) for name, share in zip(sets, shares, strict=True)]
    names = np.concatenate([[name] * len(x) for name, x in found])
    return np.concatenate([x for _, x in found]), names


def attacked(study, name):
    """The attack on one system in both directions, at each size: what it found, and the images."""
    begun, setup, system = time.process_time(), study.setup, every()[name]
    model = study.defended(system)
    others = {} if name in LEADERS else {leader: of_leader(study, leader)[1] for leader in LEADERS}
    known = study.judged(system, study.test.x).suspicion
    x, names = few(study)
    plain = {name: study.judged(system, study.ood(name)).suspicion for name in setup.sets}
    spread = spreads(model, study.test.x[: setup.batch] if system.on_images else study.features(study.test.x))
    search = Search(None if system.on_images else study.body, model, spread, setup.steps, setup.batch)
    found, images, flags = {}, {}, {ACCEPT: [], REJECT: []}
    ood = np.concatenate(list(plain.values()))
    for direction, samples, against in ((ACCEPT, x, known), (REJECT, study.test.x[: setup.attacked], ood)):
        search.aim(direction, against)
        own = search.judge.suspicion(samples, setup.batch)
        found[direction] = {"0": _judged(study, direction, own, names, known, plain)}
        smaller = ()
        for size in setup.sizes:
            key = f"{direction}, {size:.6f}"
            tried = [*smaller, *(arrays[key] for arrays in others.values())]
            points, own, stuck = search(samples, size, tried)
            smaller, images[key] = (points,), points
            found[direction][f"{size:.6f}"] = _judged(study, direction, own, names, known, plain)
            if stuck.mean() > 0.01:
                flags[direction].append(f"gradients at {size:.3g}")
            if size == setup.sizes[0] and _gained(search, setup, samples, size, points, own, against, direction) > MORE:
                flags[direction].append("longer search")
    each = (len(x) + setup.attacked) * len(setup.sizes)
    about = {"steps": search.taken / each, "flags": flags, "CPU seconds": time.process_time() - begun}
    return {"found": found} | about, images


def _judged(study, direction, own, names, known, plain):
    """Rates of near and far OOD images where one of the two sides is attacked, and which share of that side is rejected."""
    found = {}
    for group, sets in groups(study.setup).items():
        if direction == ACCEPT:
            ood = {name: own[names == name] for name in sets}
            rates, judged = Rates(known, ood), np.concatenate(list(ood.values()))
        else:
            rates, judged = Rates(own, {name: plain[name] for name in sets}), own
        # As in the model: what is no number is rejected.
        about = {"rejected": float((~(judged <= 0)).mean()), "n": len(judged)}
        found[group] = {metric: rates.of(metric, sets) for metric in METRICS} | about
    return found


def _gained(search, setup, samples, size, points, own, against, direction):
    """How much less the AUROC is of some samples when they are searched for longer."""
    chosen = slice(0, setup.checked)
    longer = search.longer(samples[chosen], size, points[chosen])
    return _area(own[chosen], against, direction) - _area(longer, against, direction)


def _area(own, others, direction):
    from tfdefense.metrics import auc

    own, others = (np.nan_to_num(part, nan=np.inf, posinf=np.inf, neginf=-np.inf) for part in (own, others))
    return auc(others, own) if direction == ACCEPT else auc(own, others)


def of_leader(study, leader):
    """What was found against one of the systems whose images are tried on all, and these images; searched for once."""
    from tfdefense import _cache
    from tfdefense._untrusted import read_arrays

    context = study.context
    about = (leader, study.network, study.setup, study.test.x[: study.setup.attacked], few(study)[0])
    path = context.cache.parent / "crafted" / f"ood-{_cache.content(*about)}.npz"

    def write(new):
        context.say(f"{leader}: images that are tried on all systems")
        found, images = attacked(study, leader)
        np.savez(new, found=np.frombuffer(json.dumps(found).encode(), "uint8"), **images)

    images = _cache.entry(path, write, lambda file: read_arrays(file)[0])
    return json.loads(images["found"].tobytes()), images


def under_attack(study, name):
    """A part: what `attacked` found, without the images."""
    return (of_leader(study, name) if name in LEADERS else attacked(study, name))[0]


def add_rows(context, setup, systems, found, alone):
    """Everything as rows; `found` has for each system's name what `clean` and `under_attack` gave."""
    from evaluation.papers.intervals import wilson

    context.row("ood", "accuracy", alone["accuracy"], system="no defense", n=alone["n"], interval=wilson(*alone.values()))
    for system in systems:
        _plain_rows(context, setup, system, found["clean", system.name], wilson)
        _attacked_rows(context, system, found["attacked", system.name], wilson)
    spent = sum(one["CPU seconds"] for one in found.values())
    context.row("ood.cost", "CPU seconds", spent, counted="all systems, without the network and its features")


def _plain_rows(context, setup, system, one, wilson):
    known, about = one["known"], {"system": system.name, "kind": system.kind}
    n = known["n"]
    context.row("ood", "accuracy", known["accuracy"], **about, n=n, interval=wilson(known["accuracy"], n))
    context.row("ood", "false-positive rate", known["rejected"], **about, n=n, interval=wilson(known["rejected"], n))
    for name, of in one["ood"].items():
        here = about | {"ood": name, "n": of["n"]} | ({"sets": ", ".join(groups(setup)[name])} if name in (NEAR, FAR) else {})
        for metric, title in METRICS.items():
            context.row("ood", title, of[metric][0], **here, interval=tuple(of[metric][1]))
        # A mean over sets is no share of samples.
        interval = None if name in (NEAR, FAR) else wilson(of["rejected"], of["n"])
        context.row("ood", "rejection rate", of["rejected"], **here, interval=interval)
    if one["choice"] is not None:
        value, interval, n = one["choice"].values()
        context.row("ood.choice", "AUROC", value, **about, n=n, interval=tuple(interval), sets=setup.exposed)


def _attacked_rows(context, system, one, wilson):
    for direction, sizes in one["found"].items():
        about = {"system": system.name, "kind": system.kind, "attack": direction, "norm": "linf", "knowledge": "adaptive"}
        flags = tuple(one["flags"][direction])
        for size, each in sizes.items():
            for group, of in each.items():
                here = about | {"epsilon": float(size), "ood": group, "n": of["n"]} | ({"flags": flags} if float(size) else {})
                for metric, title in METRICS.items():
                    context.row("ood.attacked", title, of[metric][0], **here, interval=tuple(of[metric][1]))
                if direction == ACCEPT:
                    context.row("ood.attacked", "rejection rate", of["rejected"], **here, interval=wilson(of["rejected"], of["n"]))
            if direction == REJECT:
                here = about | {"epsilon": float(size), "n": of["n"]} | ({"flags": flags} if float(size) else {})
                interval = wilson(of["rejected"], of["n"])
                context.row("ood.attacked", "false-positive rate", of["rejected"], **here, interval=interval)
    context.row("ood.cost", "iterations", one["steps"], system=system.name, n=one["found"][REJECT]["0"][NEAR]["n"])
