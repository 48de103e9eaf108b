"""Attacks on a Ray cluster: each batch is a task."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdefense._cluster import Received, Sent, Workers
from tfdefense.attacks.result import arrays_of

if TYPE_CHECKING:
    from tfdefense.attacks.base import Attack, Batch


class Attackers(Workers):
    """Workers of a cluster that attack, and the models that were sent to them."""

    def __init__(self, address: str) -> None:
        super().__init__(address, Attacker)
        self.sent = Sent(self.ray)


class Attacker:
    """What each worker does."""

    def __init__(self) -> None:
        self._received = Received()
        # The call that it was last at, which is the same for all of its batches.
        self._name: str | None = None
        self._call: Any = None

    def __call__(self, name: str, references: list[Any], models: dict[str, Any], batch: Batch) -> dict[str, np.ndarray]:
        if name != self._name:
            self._call, self._name = self._received.unpacked(references[0], models), name
        attack, view, pool, *options = self._call
        return arrays_of(attack._attack(dataclasses.replace(batch, view=view, pool=pool), *options))


@contextlib.contextmanager
def workers(ray: str | Attackers | None) -> Iterator[Attackers | None]:
    """The workers of a Ray cluster for several attacks in a row, which else begin with new ones each: `attack(..., ray=found)`.

    Args:
        ray: Address of the cluster, such as "auto". What is no address is given back as it is.

    Example:

    >>> with workers("auto") as found:  # doctest: +SKIP
    ...     results = [PGD(size)(model, x, y, batch_size=32, ray=found) for size in (0.1, 0.2)]
    """
    if isinstance(ray, str):
        with Attackers(ray) as found:
            yield found
    elif ray is None or isinstance(ray, Attackers):
        yield ray
    else:
        raise ValueError(f'`ray` must be the address of a Ray cluster, such as "auto". Received: {ray!r}.')


def spread(found: Attackers, attack: Attack, part: Callable[[int], Batch], *options: Any) -> Callable[[Iterable[int]], Any]:
    """From numbers of batches to pairs of a number and the arrays of its result, as workers have them; for `_cache.batches`.

    Args:
        found: The workers.
        attack: The attack.
        part: Gives the batch of a number.
        options: Of `Attack._attack`, behind the batch.
    """

    def several(numbers):
        first = part(0)
        reference, models = found.sent.packed((attack, first.view, first.pool, *options))

        def task(number):
            apart: dict[str, Any] = {"view": None, "pool": ()}
            return reference.hex(), [reference], models, dataclasses.replace(part(number), **apart)

        return found.each(numbers, task, lambda number: f"attacking batch {number} by {type(attack).__name__}")

    return several
