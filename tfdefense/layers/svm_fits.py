"""One-vs-all RBF-SVMs in numpy and scikit-learn: distances in blocks, fits on a shared kernel, cross-validation.

Everything is in float64: the solver's path depends on the last digits, and the SVMs must be those of scikit-learn.
"""

import numpy as np

_BLOCK = 1024


def gamma_of(gamma, features):
    """The width as a number: `gamma` itself, or, for "scale" and "2*scale", that many times 1 / (features * variance)."""
    if not isinstance(gamma, str):
        return float(gamma)
    variance = float(features.var(dtype="float64"))
    return scale_factor(gamma) / (features.shape[1] * variance) if variance > 0 else scale_factor(gamma)


def scale_factor(gamma):
    factor, _, word = gamma.replace(" ", "").rpartition("*")
    try:
        value = float(factor or 1)
    except ValueError:
        value = 0.0
    if word != "scale" or not (0 < value < np.inf):
        raise ValueError(f"`gamma` must be a number above 0, 'scale', or a multiple such as '2*scale'. Received: {gamma!r}.")
    return value


def squared_distances(features):
    """All pairs, in blocks: beside the result only a few rows of the features are held in float64."""
    count = len(features)
    squares = np.concatenate([np.square(features[i : i + _BLOCK].astype("float64")).sum(1) for i in range(0, count, _BLOCK)])
    distances = np.empty((count, count))
    for i in range(0, count, _BLOCK):
        rows = slice(i, min(i + _BLOCK, count))
        left = features[rows].astype("float64")
        for j in range(i, count, _BLOCK):
            columns = slice(j, min(j + _BLOCK, count))
            block = squares[rows, None] + squares[columns] - 2 * left @ features[columns].astype("float64").T
            distances[rows, columns] = np.maximum(block, 0)
            distances[columns, rows] = distances[rows, columns].T
    np.fill_diagonal(distances, 0)
    return distances


def kernel_between(features, gamma, rows, columns):
    """The kernel of some samples with others, without that of all."""
    if rows is columns:
        distances = squared_distances(features[rows])
        return kernel_of(distances, gamma, out=distances)
    right = features[columns].astype("float64")
    squares, kernel = np.square(right).sum(1), np.empty((len(rows), len(columns)))
    for i in range(0, len(rows), _BLOCK):
        left = features[rows[i : i + _BLOCK]].astype("float64")
        block = np.maximum(np.square(left).sum(1)[:, None] + squares - 2 * left @ right.T, 0)
        kernel[i : i + _BLOCK] = kernel_of(block, gamma, out=block)
    return kernel


def kernel_of(distances, gamma, out=None):
    return np.exp(np.multiply(distances, -gamma, out=out), out=out)


def fit(kernel, labels, classes, C):
    """One SVM a class on one kernel: coefficients (samples, classes), most rows zero, and intercepts (classes,)."""
    with _threads():
        svms = _one_vs_rest(C).fit(kernel, labels).estimators_
    coefficients, intercepts = np.zeros((len(labels), len(svms))), np.concatenate([svm.intercept_ for svm in svms])
    for column, svm in zip(coefficients.T, svms, strict=True):
        column[svm.support_] = svm.dual_coef_[0]
    if classes == 2:
        # The SVM of one class is that of the other with its signs turned.
        return coefficients * [-1, 1], intercepts * [-1, 1]
    return coefficients, intercepts


def _one_vs_rest(C):
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    return OneVsRestClassifier(SVC(C=C, kernel="precomputed"), n_jobs=-1)


def _threads():
    """The solver leaves Python's lock, and threads share the one kernel."""
    from joblib import parallel_config

    return parallel_config("threading")


def kinds_of(pairs, labels, classes):
    """The pair of each sample as a number from 0, and for each pair a number that says of which classes it holds samples."""
    pairs = np.unique(pairs, return_inverse=True)[1]
    holds = np.zeros((pairs.max() + 1, classes), bool)
    holds[pairs, labels] = True
    return pairs, np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1)


def folds_of(pairs, labels, classes, folds):
    """The fold of each sample: a pair lies in one, and of the pairs that hold the same classes a stretch in each.

    Stretches, as the numbers of the pairs have them: what stands near in a set, such as views of one room, mostly stays together.
    """
    pairs, kinds = kinds_of(pairs, labels, classes)
    fold = np.empty(len(kinds), int)
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        fold[own] = np.arange(len(own)) * folds // len(own)
    return fold[pairs]


def cross_validated_scores(kernel, labels, classes, C, folds, pairs=None):
    """Scores of each sample by SVMs that were fitted without its fold.

    Args:
        kernel: Of all samples, or a function that gives that of some rows with others: then no more than a fold's is in memory.
        pairs: A number for each sample, the same for those that belong together, as a clean sample and the adversarial ones made of
            it do: they are left out together. Else its nearest neighbour of the wrong class would judge each.
    """
    from sklearn.model_selection import PredefinedSplit, StratifiedKFold

    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    if pairs is not None:
        splits = PredefinedSplit(folds_of(pairs, labels, classes, folds))
    between = kernel if callable(kernel) else lambda rows, columns: kernel[np.ix_(rows, columns)]
    scores = np.empty((len(labels), classes) if classes > 2 else len(labels))
    with _threads():
        for rest, fold in splits.split(labels, labels):
            scores[fold] = _one_vs_rest(C).fit(between(rest, rest), labels[rest]).decision_function(between(fold, rest))
    return scores if classes > 2 else np.stack([-scores, scores], 1)


def drawn(labels, pairs, classes, most):
    """The rows of about so many samples, evenly from the classes; of pairs whole ones, evenly from those of the same classes."""
    from sklearn.model_selection import train_test_split

    if pairs is None:
        return train_test_split(np.arange(len(labels)), train_size=most, stratify=labels, random_state=0)[0]
    numbers, kinds = kinds_of(pairs, labels, classes)
    share, every = most / len(labels), [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    some = [own[np.linspace(0, len(own) - 1, round(share * len(own))).astype(int)] for own in every]
    return np.flatnonzero(np.isin(numbers, np.concatenate(some)))


def choose(features, labels, classes, grid, folds, pairs=None, progress=True):
    """The C and gamma with the best cross-validated accuracy, and that accuracy; of equals the first.

    Not `GridSearchCV`: it searches on one kernel, which a width changes, and takes the mean of the folds' accuracies, which are
    not equally large.
    """
    import keras

    distances = squared_distances(features)
    bar = keras.utils.Progbar(len(grid["C"]) * len(grid["gamma"]), unit_name="fit") if progress else None
    best, tried = (-1.0, None, None), 0
    for gamma in grid["gamma"]:
        kernel = kernel_of(distances, gamma_of(gamma, features))
        for C in grid["C"]:
            scores = cross_validated_scores(kernel, labels, classes, C, folds, pairs)
            accuracy = float((scores.argmax(1) == labels).mean())
            if accuracy > best[0]:
                best = (accuracy, C, gamma)
            tried += 1
            if bar:
                bar.update(tried)
    return best[1], best[2], best[0]


def centres(points, count, seed=0):
    """k-means centres, or the points themselves where there are no more."""
    if count >= len(points):
        return points
    from sklearn.cluster import MiniBatchKMeans

    return (
        MiniBatchKMeans(count, n_init=1, batch_size=max(1024, 4 * count), max_iter=30, random_state=seed)
        .fit(points)
        .cluster_centers_
    )


def refit(points, support_vectors, gamma, targets, ridge=1e-6):
    """Coefficients with which the support vectors give the targets at the points: least squares with a small ridge."""
    squares = np.square(support_vectors).sum(1)
    gram, moment = ridge * len(points) * np.eye(len(support_vectors)), np.zeros((len(support_vectors), targets.shape[1]))
    for i in range(0, len(points), _BLOCK):
        block = points[i : i + _BLOCK].astype("float64")
        distances = np.square(block).sum(1)[:, None] + squares - 2 * block @ support_vectors.T
        kernel = kernel_of(np.maximum(distances, 0), gamma)
        gram += kernel.T @ kernel
        moment += kernel.T @ targets[i : i + _BLOCK]
    return np.linalg.solve(gram, moment)
