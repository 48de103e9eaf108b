"""Right, rejected or wrong: what became of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, check_labels, check_numbers, check_same_length


@dataclass(frozen=True, eq=False, repr=False)
class Outcomes:
    """The outcome of each sample; exactly one of `right`, `rejected`, `wrong` is true.

    Attributes:
        right, rejected, wrong: Booleans of shape (n,).
        label: What the model said: the class, or -1 = rejected.
        y: The true classes.
        suspicion: The detector score minus the threshold, or `None` for a plain classifier.
        guess: The class before rejection (-1 where the scores are NaN), or `None` where it is not known.
        adversarial: Whether the samples were perturbed. Then a rejection is a success of the defender.

    Example:

    >>> outcomes = Outcomes.of(label=[7, -1, 3, 1], y=[7, 2, 5, 1])
    >>> outcomes
    Outcomes(4 samples: 50.0 % right, 25.0 % rejected, 25.0 % wrong)
    >>> outcomes.robust_accuracy
    0.75
    """

    right: np.ndarray
    rejected: np.ndarray
    wrong: np.ndarray
    label: np.ndarray
    y: np.ndarray
    suspicion: np.ndarray | None = None
    guess: np.ndarray | None = None
    adversarial: bool = False

    def __post_init__(self):
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "adversarial"}
        check_same_length(**arrays)
        times = self.right.astype(int) + self.rejected + self.wrong
        if not (times == 1).all():
            raise ValueError(
                "Exactly one of `right`, `rejected`, `wrong` must be true for a sample. "
                f"Received {int((times != 1).sum())} samples where it is not so. Build with `Outcomes.of(label, y)`."
            )

    @classmethod
    def of(
        cls,
        label: ArrayLike,
        y: ArrayLike,
        suspicion: ArrayLike | None = None,
        *,
        guess: ArrayLike | None = None,
        adversarial: bool = False,
    ) -> Outcomes:
        """Outcomes from labels (-1 = rejected) and true classes."""
        label, y = check_labels(label, "label", rejection=True), check_labels(y)
        suspicion = None if suspicion is None else check_numbers(suspicion, "suspicion")
        rejected = label == -1
        if guess is not None:
            guess = check_labels(guess, "guess", rejection=True)
        elif not rejected.any():
            guess = label
        check_same_length(label=label, y=y, suspicion=suspicion, guess=guess)
        right = label == y
        return cls(right, rejected, ~right & ~rejected, label, y, suspicion, guess, bool(adversarial))

    def __len__(self):
        return len(self.y)

    @property
    def accuracy(self) -> float:
        """Share of samples given their class. A rejection does not count."""
        return float(self.right.mean())

    @property
    def rejection(self) -> float:
        """Share of rejected samples."""
        return float(self.rejected.mean())

    @property
    def error(self) -> float:
        """Share of samples given another class: 1 - accuracy - rejection."""
        return float(self.wrong.mean())

    @property
    def coverage(self) -> float:
        """Share of samples that are accepted."""
        return float((~self.rejected).mean())

    @property
    def risk(self) -> float:
        """Share of wrong ones among the accepted samples; NaN where none is accepted.

        >>> Outcomes.of(label=[7, -1, 3, 1, -1], y=[7, 2, 5, 1, 3]).risk
        0.3333333333333333
        """
        accepted = int((~self.rejected).sum())
        return float(self.wrong.sum() / accepted) if accepted else float("nan")

    @property
    def robust_accuracy(self) -> float:
        """Share of samples either right or rejected: accuracy under attack."""
        return float((~self.wrong).mean())

    @property
    def accuracy_before_rejection(self) -> float:
        """Share of samples whose class is right with the detector switched off."""
        return float((self._known_guess() == self.y).mean())

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples of each kind."""
        return {kind: int(getattr(self, kind).sum()) for kind in ("right", "rejected", "wrong")}

    def confusion(self, classes: int | None = None) -> np.ndarray:
        """Counts of (true class, label); the last column counts rejections.

        >>> Outcomes.of(label=[0, 1, -1], y=[0, 0, 1]).confusion().tolist()
        [[1, 1, 0], [0, 0, 1]]
        """
        needed = int(max(self.y.max(), self.label.max())) + 1
        classes = needed if classes is None else classes
        if classes < needed:
            raise ValueError(f"`classes` must be at least {needed}, the classes seen. Received {classes}. Leave it out.")
        table = np.zeros((classes, classes + 1), dtype="int64")
        np.add.at(table, (self.y, np.where(self.rejected, classes, self.label)), 1)
        return table

    def select(self, chosen: ArrayLike) -> Outcomes:
        """The outcomes of some samples, by a boolean mask or by indices."""
        chosen = np.asarray(chosen)
        if chosen.dtype == bool:
            check_same_length(outcomes=self.y, chosen=chosen)
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: v[chosen] if isinstance(v, np.ndarray) else v for name, v in kept.items()}
        if len(kept["y"]) == 0:
            raise ValueError("`chosen` must keep at least one sample. Received a choice of none. Check `chosen.any()`.")
        return Outcomes(**kept)

    def summary(self) -> str:
        """A small table to print."""
        lines = [f"{len(self)} {'perturbed ' if self.adversarial else ''}samples"]
        lines += [f"  {kind:<18}{n:>7}{100 * n / len(self):>8.1f} %" for kind, n in self.counts.items()]
        safe = self.counts["right"] + self.counts["rejected"]
        lines.append(f"  {'robust accuracy':<18}{safe:>7}{100 * self.robust_accuracy:>8.1f} %")
        if not self.adversarial and self.rejected.any() and not self.rejected.all():
            lines.append(f"  {'wrong of accepted':<18}{self.counts['wrong']:>7}{100 * self.risk:>8.1f} %")
        return "\n".join(lines)

    def __repr__(self):
        shares = ", ".join(f"{100 * n / len(self):.1f} % {kind}" for kind, n in self.counts.items())
        return f"Outcomes({len(self)} {'perturbed ' if self.adversarial else ''}samples: {shares})"

    def _known_guess(self):
        if self.guess is None:
            raise ValueError(
                "The classes before rejection must be known. Received outcomes made from labels, some of them -1. "
                "Use `evaluate`, or pass `guess=scores.argmax(axis=1)` to `Outcomes.of`."
            )
        return self.guess


def evaluate(
    model: AnyModel,
    x: Any,
    y: ArrayLike | None = None,
    *,
    batch_size: int | None = None,
    adversarial: bool | None = None,
    devices: Sequence[str] | None = None,
) -> Outcomes:
    """Right, rejected or wrong, for each sample. Samples are read, decided and forgotten batch by batch.

    Args:
        model: A defended model, or a plain classifier (which rejects nothing).
        x: Samples, the result of an attack, a data set of batches (samples, classes) such as a `tf.data.Dataset`, or the path of a
            folder with one sub-folder of pictures for each class. Arrays may be larger than memory: `np.load(path, mmap_mode="r")`.
        y: True classes of shape (n,); None where the data set or the folder has them.
        batch_size: Samples a step, over all devices; None as for `td.adapt`, on each.
        adversarial: Whether the samples are perturbed; by default, whether `x` is the result of an attack.
        devices: Names of devices that share each batch, such as `["GPU:0", "GPU:1"]`, each with a copy of the Keras model. None
            takes all GPUs where there are several, but for a `View`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    >>> evaluate(model, np.eye(3), [0, 1, 1])
    Outcomes(3 samples: 66.7 % right, 0.0 % rejected, 33.3 % wrong)
    """
    from tfdefense.prediction.devices import across, chosen
    from tfdefense.prediction.labelled import labelled_batches
    from tfdefense.prediction.predicting import decided
    from tfdefense.view import View

    perturbed, view = hasattr(x, "x_adv"), View.of(model)
    # Whoever evaluates a view does so again and again, on few samples: a copy each time would take longer.
    places = () if devices is None and view is model else chosen(view, devices)
    run = across(view, places) if places else None
    found: list[tuple[Any, ...]] = []
    for batch, labels in labelled_batches(view, x.x_adv if perturbed else x, y, batch_size, max(1, len(places))):
        decisions = None if run is None else decided(view, batch, run)
        said = view.run(batch) if decisions is None else [decisions[name] for name in ("scores", "suspicion", "label")]
        arrays: Any = (None if one is None else np.asarray(one) for one in said)
        scores, suspicion, label = arrays
        if scores.ndim != 2:
            raise ValueError(
                f"The model must give scores of shape (n, classes). Received shape {scores.shape}. "
                "Give a binary classifier two scores, and flatten the output of a convolution."
            )
        labels = check_labels(labels, classes=scores.shape[1])
        # A defended model rejects what it cannot judge; a plain one would name some class for scores of NaN.
        check_numbers(np.where((label == -1)[:, None], 0.0, scores), "scores", ndim=2)
        guess = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
        found.append((label, labels, suspicion, guess))
    joined: Any = (None if part[0] is None else np.concatenate(part) for part in zip(*found, strict=True))
    label, y, suspicion, guess = joined
    adversarial = perturbed if adversarial is None else adversarial
    return Outcomes.of(label, y, suspicion, guess=guess, adversarial=adversarial)


def successful_pairs(clean: Outcomes, adversarial: Outcomes) -> np.ndarray:
    """Mask of samples classified right when clean and wrong when perturbed, both with the detector switched off.

    Args:
        clean, adversarial: `Outcomes` of the same samples, before and after the attack.

    Example:

    >>> clean, adversarial = Outcomes.of([0, 1, 1], [0, 1, 0]), Outcomes.of([1, 1, 1], [0, 1, 0])
    >>> successful_pairs(clean, adversarial).tolist()
    [True, False, False]
    """
    check_same_length(clean=clean.y, adversarial=adversarial.y)
    if not np.array_equal(clean.y, adversarial.y):
        raise ValueError(
            "`clean` and `adversarial` must be outcomes of the same samples. Received different true classes `y`. "
            "Evaluate both with the same `y`, in the same order."
        )
    return (clean._known_guess() == clean.y) & (adversarial._known_guess() != adversarial.y)
