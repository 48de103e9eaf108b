"""Published detector scores in plain NumPy, by the formulas of OpenOOD's post-processors: what the layers are compared with.

Apart from the library on purpose: nothing is shared with it. Each is `score(train, new)`, two dicts with `z` (features), `logits`
and `y` (classes), and the weights `W` and `b` of the last Dense layer with logits = z @ W + b. OpenOOD's scores grow with what is
in distribution; here the sign is turned round. Where the papers and OpenOOD differ, the name says which it is.
"""

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.covariance import EmpiricalCovariance


def max_logit(train, new):
    return -new["logits"].max(1)


def energy(train, new, temperature=1.0):
    return -temperature * logsumexp(new["logits"] / temperature, axis=1)


def probability_entropy(train, new):
    return entropy(softmax(new["logits"], axis=1), axis=1)


def gen(train, new, gamma=0.1, M=100):
    p = np.sort(softmax(new["logits"], axis=1))[:, -M:]
    return (p**gamma * (1 - p) ** gamma).sum(1)


def kl_matching(train, new):
    p_train, p = softmax(train["logits"], axis=1), softmax(new["logits"], axis=1)
    taken = p_train.argmax(1)
    typical = [p_train[taken == c].mean(0) for c in np.unique(taken)]
    return np.array([min(entropy(row, other) for other in typical) for row in p])


def _unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def knn(train, new, k=50):
    # faiss.IndexFlatL2 gives squared distances.
    squares = np.square(_unit(new["z"])[:, None] - _unit(train["z"])).sum(-1)
    return np.sort(squares, axis=1)[:, k - 1]


def nnguide(train, new, k=100):
    bank = _unit(train["z"]) * logsumexp(train["logits"], axis=1)[:, None]
    guidance = np.sort(_unit(new["z"]) @ bank.T, axis=1)[:, -k:].mean(1)
    return -guidance * logsumexp(new["logits"], axis=1)


def _precision(differences):
    # In float32, as there: which directions are taken for rounding follows from that.
    return EmpiricalCovariance(assume_centered=False).fit(differences.astype("float32")).precision_.astype("float64")


def _distances(differences, precision):
    return np.einsum("ni,ij,nj->n", differences, precision, differences)


def mahalanobis(train, new):
    groups = [train["z"][train["y"] == c] for c in np.unique(train["y"])]
    means = [group.mean(0) for group in groups]
    within = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
    precision = _precision(within)
    return np.min([_distances(new["z"] - mean, precision) for mean in means], axis=0)


def rmds(train, new):
    whole = train["z"].mean(0)
    precision = _precision(train["z"] - whole)
    return mahalanobis(train, new) - _distances(new["z"] - whole, precision)


def vim(train, new, dim):
    u = -np.matmul(np.linalg.pinv(train["W"].T), train["b"])
    covariance = EmpiricalCovariance(assume_centered=True).fit(train["z"] - u).covariance_
    values, vectors = np.linalg.eig(covariance)
    outside = vectors.T[np.argsort(values * -1)[dim:]].T
    alpha = train["logits"].max(1).mean() / np.linalg.norm((train["z"] - u) @ outside, axis=1).mean()
    return alpha * np.linalg.norm((new["z"] - u) @ outside, axis=1) - logsumexp(new["logits"], axis=1)


def fdbd(train, new):
    w, logits = train["W"].T, new["logits"]
    best = logits.argmax(1)
    total = np.zeros(len(logits))
    for i, row in enumerate(logits):
        for c in range(len(row)):
            if c != best[i]:
                total[i] += abs(row[c] - row[best[i]]) / np.linalg.norm(w[c] - w[best[i]])
    return -total / np.linalg.norm(new["z"] - train["z"].mean(0), axis=1)


def _energy_of(z, train):
    return -logsumexp(z @ train["W"] + train["b"], axis=1)


def react(train, new, percentile=90):
    return _energy_of(new["z"].clip(max=np.percentile(train["z"].ravel(), percentile)), train)


def _pruned(z, percentile):
    count = z.shape[1] - int(np.round(z.shape[1] * percentile / 100))
    kept, places = np.zeros_like(z), np.argsort(z, axis=1)[:, -count:]
    np.put_along_axis(kept, places, np.take_along_axis(z, places, axis=1), axis=1)
    return kept, places, count


def ash_p(train, new, percentile=90):
    return _energy_of(_pruned(new["z"], percentile)[0], train)


def ash_b(train, new, percentile=90):
    kept, places, count = _pruned(new["z"], percentile)
    np.put_along_axis(kept, places, new["z"].sum(1, keepdims=True) / count, axis=1)
    return _energy_of(kept, train)


def ash_s(train, new, percentile=90):
    kept, _, _ = _pruned(new["z"], percentile)
    return _energy_of(kept * np.exp(new["z"].sum(1) / kept.sum(1))[:, None], train)


def scale(train, new, percentile=85):
    kept, _, _ = _pruned(new["z"], percentile)
    return _energy_of(new["z"] * np.exp(new["z"].sum(1) / kept.sum(1))[:, None], train)
