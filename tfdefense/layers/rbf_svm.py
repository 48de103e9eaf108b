from __future__ import annotations

import functools
import re
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._renamed import renamed_attributes
from tfdefense._validation import Search, Tensor, check_labels
from tfdefense.layers import svm_fits
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.finite import unless_finite
from tfdefense.layers.svm_options import GRID as GRID
from tfdefense.layers.svm_options import check_C, check_count, check_gamma, checked_grid, size

_USUAL_SAMPLES = 10_000


@keras.saving.register_keras_serializable(package="tfdefense")
class RBFSVM(AdaptableLayer):
    """One-vs-all RBF-SVMs over shared support vectors: their scores fall off away from the training samples.

    Always active, differentiable. The scores are NaN until `adapt` has fitted the SVMs, so that everything is
    rejected. Inputs of any shape are flattened. With `trainable=True`, `fit` tunes support vectors, coefficients,
    intercepts and the width from there on; compile after `adapt`, which changes how many support vectors there are.

    Args:
        classes: Number of SVMs.
        C: Cost of a training sample on the wrong side.
        gamma: Width of the kernel exp(-gamma * distance²): a number, "scale" as in scikit-learn, or "2*scale".
        folds: Folds of every cross-validation.
        cross_validated: Whether `adapt` returns the scores of each sample by SVMs fitted without it: what an
            SVM stacked on top must learn from.
        search: Cross-validate C and gamma: True, or a dict such as `{"C": [1, 10], "gamma": ["scale"]}`.
        search_samples: Of more samples than this the search looks at so many, as many of each class as there are; None at all.
        max_memory: Bytes that the kernel, or the features of the samples, may take in `adapt`.
        max_samples: Of more samples than this, about so many are drawn evenly from the classes and fitted; a warning tells the
            error on the others. None fits all, or refuses those whose kernel is too large.
        vectors: Number of support vectors; `adapt` and loading set it.

    Example:

    >>> layer = RBFSVM(classes=2, C=10.0)
    >>> layer.adapt(np.array([[0.0], [0.2], [0.8], [1.0]]), np.array([0, 0, 1, 1]))
    >>> [int(scores.argmax()) for scores in layer(np.array([[0.1], [0.9]])).numpy()]
    [0, 1]

    Reference: Sotgiu et al., 2020, Deep neural rejection against adversarial examples.
    """

    __getattr__ = renamed_attributes(references="support_vectors", machines="svms")
    # The name of the class in weights of earlier versions.
    _former_name: str | None = None
    # Its `smooth` reaches further, but is not the only way to attack it.
    has_slope = True

    def __init__(
        self,
        classes: int,
        C: float = 1.0,
        gamma: float | str = "scale",
        folds: int = 5,
        cross_validated: bool = False,
        search: Search = None,
        max_memory: float = 2e9,
        vectors: int | None = None,
        search_samples: int | None = 2000,
        max_samples: int | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        check_count("classes", classes, 2)
        check_count("folds", folds, 2)
        self.search = checked_grid(search)
        if search_samples is not None:
            check_count("search_samples", search_samples, 2 * folds)
        self.search_samples = search_samples
        if max_samples is not None:
            check_count("max_samples", max_samples, 2 * classes)
        self.max_samples = max_samples
        self._rows: Any = None
        check_C(C)
        check_gamma(gamma)
        self.classes = classes
        self.C = C
        self.gamma = gamma
        self.folds = folds
        self.cross_validated = cross_validated
        self.max_memory = max_memory
        self.vectors: Any = vectors
        self.support_vectors: Any = None
        self.coefficients: Any = None

    @property
    def svms(self) -> int:
        """The number of SVMs on the one kernel: a column of coefficients each."""
        return self.classes

    def build(self, input_shape):
        super().build(input_shape)
        shape = tuple(input_shape[1:])
        if not shape or None in shape:
            raise ValueError(
                f"Expected features of a known size, shape (batch, ...). Received shape {tuple(input_shape)}. "
                "Watch a layer behind a `GlobalAveragePooling2D`, or give the model a fixed input size."
            )
        self.features = int(np.prod(shape))
        needed = 4 * self.features * _USUAL_SAMPLES
        if needed > self.max_memory:
            raise ValueError(
                f"Expected features that fit into memory. Received {self.features:,} a sample: {_USUAL_SAMPLES:,} samples take "
                f"{size(needed)}, up to as much again as support vectors in the saved model, and "
                f"{size(8 * _USUAL_SAMPLES**2)} for the kernel; the limit is {size(self.max_memory)}. "
                "Watch a later layer or one behind a pooling, or raise `max_memory`."
            )
        # Distances lose digits far from the origin, so they are taken from the middle of the data.
        self.centre = self.add_weight(name="centre", shape=(self.features,), initializer="zeros", trainable=False)
        # The logarithm keeps the width above 0 while it is trained.
        self.log_gamma = self.add_weight(name="log_gamma", shape=(), initializer="zeros")
        self.intercepts = self.add_weight(
            name="intercepts", shape=(self.svms,), initializer=keras.initializers.Constant(float("nan"))
        )
        self._make_support_vectors(self.vectors or 1)

    def _make_support_vectors(self, count):
        """New variables: only training data tell how many support vectors there are, and Keras variables keep their shape."""
        for old in (self.support_vectors, self.coefficients):
            if old is not None:
                self._untrack_variable(old)
        locked = self._tracker.locked
        self._tracker.unlock()
        self.support_vectors = self.add_weight(name="support_vectors", shape=(count, self.features), initializer="zeros")
        self.coefficients = self.add_weight(name="coefficients", shape=(count, self.svms), initializer="zeros")
        if locked:
            self._tracker.lock()
        for variable in (self.log_gamma, self.intercepts, self.support_vectors, self.coefficients):
            variable.trainable = self.trainable
        self.vectors = count

    def _set_support_vectors(self, support_vectors, coefficients):
        if len(support_vectors) != self.vectors:
            self._make_support_vectors(len(support_vectors))
        self.support_vectors.assign(support_vectors.astype("float32"))
        self.coefficients.assign(coefficients.astype("float32"))

    def load_own_variables(self, store):
        path = getattr(store, "_h5_entry_path", None)
        if path and self._former_name and not store.keys():
            # Keras stores weights under the name of the class, and numbers them.
            folder, name = path.rsplit("/", 1)
            number = re.findall(r"(?:_\d+)?$", name)[0]
            store = store.get(f"{folder}/{self._former_name}{number}")
        # A weights file may come from a layer with more or fewer support vectors than this one has now.
        variables = [*self._trainable_variables, *self._non_trainable_variables]
        place = next(i for i, variable in enumerate(variables) if variable is self.support_vectors)
        if str(place) in store and store[str(place)].shape[0] != self.vectors:
            self._make_support_vectors(store[str(place)].shape[0])
        super().load_own_variables(store)

    def call(self, features):
        return self._scores(features, self.log_gamma)

    def smooth(self, features: Tensor, slope: float, widen: float) -> Tensor:
        """The scores with kernels `widen` times as wide, whose gradients reach further from the support vectors."""
        return self._scores(features, self.log_gamma - 2.0 * ops.log(widen))

    def _scores(self, features, log_gamma):
        x = ops.reshape(features, (-1, self.features)) - self.centre
        products = ops.matmul(x, ops.transpose(self.support_vectors))
        distances = ops.sum(ops.square(x), -1, keepdims=True) + ops.sum(ops.square(self.support_vectors), -1) - 2.0 * products
        kernel = ops.exp(-ops.exp(log_gamma) * ops.maximum(distances, 0.0))
        return unless_finite(ops.matmul(kernel, self.coefficients) + self.intercepts, x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.classes)

    def adapt(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        C: float | None = None,
        gamma: float | str | None = None,
        pairs: ArrayLike | None = None,
    ) -> np.ndarray | None:
        """Fits the SVMs with scikit-learn.

        Args:
            features: Shape (samples, ...).
            labels: Their classes; each class must be there, in every fold where there are folds.
            C, gamma: In place of those of the layer.
            pairs: A number for each sample, the same for those that cross-validation must leave out together, such as a clean
                sample and the adversarial ones made of it. None: each sample stands alone.

        Returns:
            The cross-validated scores if the layer is `cross_validated`, else None.
        """
        features, labels, pairs = self._check(features, labels, pairs)
        for name, value, check in (("C", C, check_C), ("gamma", gamma, check_gamma)):
            if value is not None:
                check(value)
                setattr(self, name, value)
        if not self.built:
            self.build((None, features.shape[1]))
        if self.search is not None:
            self.C, self.gamma, _ = self._searched(features, labels, pairs)
        whole = features, labels
        self._rows = rows = self._to_draw(labels, pairs)
        if rows is not None:
            features, labels, pairs = features[rows], labels[rows], None if pairs is None else pairs[rows]
        gamma = svm_fits.gamma_of(self.gamma, features)
        distances = svm_fits.squared_distances(features)
        kernel = svm_fits.kernel_of(distances, gamma, out=distances)
        coefficients, intercepts = self._fit(kernel, labels)
        support = np.flatnonzero(coefficients.any(1))
        centre = features.mean(0, dtype="float64").astype("float32")
        self.centre.assign(centre)
        self.log_gamma.assign(np.float32(np.log(gamma)))
        self.intercepts.assign(intercepts.astype("float32"))
        self._set_support_vectors(features[support] - centre, coefficients[support])
        self.mark_adapted()
        # Two kernels at once, of all and of a fold's, would be the most that is ever in memory.
        del kernel, distances
        scores = None
        if self.cross_validated:
            between = functools.partial(svm_fits.kernel_between, features, gamma)
            scores = svm_fits.cross_validated_scores(between, labels, self.classes, self.C, self.folds, pairs).astype("float32")
        return scores if rows is None else self._beyond(*whole, rows, scores)

    def _to_draw(self, labels, pairs):
        if self.max_samples is None or len(labels) <= self.max_samples:
            return None
        rows = svm_fits.drawn(labels, pairs, self.classes, self.max_samples)
        if self.cross_validated:
            self._check_folds(labels[rows], None if pairs is None else pairs[rows])
        return rows

    def _beyond(self, features, labels, rows, scores):
        """Tells the error on samples that were not drawn, and puts their scores beside the cross-validated ones."""
        others = np.setdiff1d(np.arange(len(labels)), rows)
        parts = [others[i : i + 1024] for i in range(0, len(others), 1024)]
        found = np.concatenate([ops.convert_to_numpy(self._scores(features[part], self.log_gamma)) for part in parts])
        wrong = float((self._taken_for(found, others) != labels[others]).mean())
        warnings.warn(
            f"Layer '{self.name}' is fitted on {len(rows):,} of {len(labels):,} samples, evenly drawn from the classes "
            f"(`max_samples={self.max_samples}`). Of the others it gets {wrong:.1%} wrong.",
            UserWarning,
            stacklevel=4,
        )
        if scores is None:
            return None
        every = np.empty((len(labels), scores.shape[1]), "float32")
        every[rows], every[others] = scores, self._of_all_svms(found)
        return every

    def _taken_for(self, scores, rows):
        """What the layer takes samples for, by their scores."""
        return self._of_all_svms(scores).argmax(1)

    def _fit(self, kernel, labels):
        return svm_fits.fit(kernel, labels, self.classes, self.C)

    def _searched(self, features, labels, pairs):
        most = self.search_samples
        if most is not None and len(features) > most:
            rows = svm_fits.drawn(labels, pairs, self.classes, most)
            features, labels, pairs = features[rows], labels[rows], None if pairs is None else pairs[rows]
            self._check_folds(labels, pairs)
        return svm_fits.choose(features, labels, self.classes, self.search, self.folds, pairs)

    def compress(self, vectors: int, features: np.ndarray | None = None, scores: ArrayLike | None = None) -> None:
        """Replaces the support vectors by fewer, refitted to give the same scores.

        Args:
            vectors: How many; nothing changes where there are no more already and they give the scores asked for.
            features: Where the scores are to be kept, shape (samples, ...). By default at the present support vectors.
            scores: The scores to give there, where they are not those that the layer gives now.
        """
        check_count("vectors", vectors, 1)
        if not self.adapted:
            raise ValueError(f"Layer '{self.name}' is not adapted yet, so there is nothing to compress. Call `adapt` first.")
        if features is None:
            points = ops.convert_to_numpy(self.support_vectors).astype("float64")
        else:
            points = np.asarray(features, "float32").reshape(len(features), -1) - ops.convert_to_numpy(self.centre)
        few = vectors >= self.vectors
        if scores is None or few:
            centre = ops.convert_to_numpy(self.centre)
            whole = [points[i : i + 1024].astype("float32") + centre for i in range(0, len(points), 1024)]
            now = np.concatenate([ops.convert_to_numpy(self._scores(part, self.log_gamma)) for part in whole])
            scores = now if scores is None else scores
            if few and np.allclose(scores, now, atol=1e-5):
                return
        wanted, vectors = self._of_all_svms(scores), min(vectors, self.vectors)
        support_vectors = svm_fits.centres(points, vectors).astype("float64")
        gamma = float(np.exp(np.float64(ops.convert_to_numpy(self.log_gamma))))
        # The intercepts stay: they are the scores far from all data, on which rejection stands.
        targets = wanted.astype("float64") - ops.convert_to_numpy(self.intercepts)
        self._set_support_vectors(support_vectors, svm_fits.refit(points, support_vectors, gamma, targets))

    def _of_all_svms(self, scores):
        """One column an SVM, from what the layer gives."""
        return scores

    def check_room(self, samples: int) -> None:
        fitted = samples if self.max_samples is None else min(samples, self.max_samples)
        kernel = 8 * fitted**2
        if kernel > self.max_memory:
            fits = int((self.max_memory / 8) ** 0.5)
            kinds, of_each = (", clean and adversarial ones together", fits // 2) if self.needs_adversarial else ("", fits)
            raise ValueError(
                f"Expected at most {fits:,} samples{kinds}: the kernel of {fitted:,} samples takes {size(kernel)}, "
                f"the limit is {size(self.max_memory)}. Pass fewer, such as `x[:{min(of_each, _USUAL_SAMPLES)}]`, have the defense "
                f"draw them, `max_samples={min(fits, _USUAL_SAMPLES)}`, or raise `max_memory`."
            )

    def _check(self, features, labels, pairs=None):
        features = np.asarray(features, "float32")
        if features.ndim < 2:
            raise ValueError(f"Expected features of shape (samples, ...). Received shape {features.shape}.")
        features = features.reshape(len(features), -1)
        if not np.isfinite(features).all():
            raise ValueError(f"Expected finite features. Received NaN or infinity in layer '{self.name}'. Check the samples.")
        labels = check_labels(labels, "labels", samples=len(features), classes=self.classes)
        self.check_room(len(features))
        missing = sorted(set(range(self.classes)) - set(labels.tolist()))
        if missing:
            raise ValueError(f"Expected samples of all {self.classes} classes. Received none of class {missing[0]}.")
        if pairs is not None:
            pairs = np.asarray(pairs)
            if pairs.shape != labels.shape or not np.issubdtype(pairs.dtype, np.integer):
                raise ValueError(
                    f"Expected `pairs` as a whole number for each of the {len(labels)} samples. "
                    f"Received {pairs.dtype} of shape {pairs.shape}."
                )
        if self.cross_validated or self.search is not None:
            if pairs is None and self.needs_adversarial:
                raise ValueError(
                    f"Layer '{self.name}' is cross-validated: a clean sample and what was made of it must be left out together. "
                    "Expected `pairs`, a number for each sample, received none. "
                    "Pass the same number for both of a pair."
                )
            self._check_folds(labels, pairs)
        return features, labels, pairs

    def _check_folds(self, labels, pairs):
        if len(labels) < self.folds:
            raise ValueError(f"Expected at least as many samples as folds, {self.folds}. Received {len(labels)}.")
        counts = np.bincount(labels, minlength=self.classes)
        if counts.min() < self.folds:
            raise ValueError(
                f"Expected each class in each of the {self.folds} folds. Class {counts.argmin()} has {counts.min()} samples "
                f"of {len(labels)}. Pass more of it, or fewer `folds`."
            )
        if pairs is not None:
            counts = [len(np.unique(pairs[labels == label])) for label in range(self.classes)]
            if min(counts) < self.folds:
                raise ValueError(
                    f"Expected samples of each class in at least as many pairs as folds, {self.folds}. "
                    f"Class {int(np.argmin(counts))} has them in {min(counts)}. "
                    "Pass adversarial samples of more clean ones, or fewer `folds`."
                )

    def get_config(self):
        own = (
            "classes",
            "C",
            "gamma",
            "folds",
            "cross_validated",
            "search",
            "max_memory",
            "vectors",
            "search_samples",
            "max_samples",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
