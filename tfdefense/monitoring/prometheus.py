"""Prometheus's text format: https://prometheus.io/docs/instrumenting/exposition_formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

_NAME = "tfdefense"


def text(status: Any, labels: Mapping[str, str], tests: Iterable[str]) -> str:
    """The numbers of a `Status`, a family of samples each."""
    low, high = status.interval
    families: list[tuple[str, str, str, list[tuple[dict[str, str], float]]]] = [
        ("samples_total", "counter", "Samples seen.", [({}, status.samples)]),
        (
            "rejections_total",
            "counter",
            "Samples rejected, by reason.",
            [({"reason": name}, count) for name, (count, _, _) in status.reasons.items()],
        ),
        ("rejection_rate", "gauge", "Share of rejected samples.", [({}, status.rate)]),
        (
            "rejection_rate_bound",
            "gauge",
            "Ends of its interval, 95 % at all times at once.",
            [({"end": "low"}, low), ({"end": "high"}, high)],
        ),
        ("rejection_rate_expected", "gauge", "Highest rejection rate without a drift.", [({}, status.expected)]),
        ("drift_evidence", "gauge", "What 1 has become that was bet on a drift of the suspicion.", [({}, status.evidence)]),
        ("drift_ks", "gauge", "Kolmogorov-Smirnov distance of the last suspicions from the reference.", [({}, status.ks)]),
        ("alarm", "gauge", "1 where a test has rung.", [({"test": name}, name in status.alarms) for name in sorted(tests)]),
    ]
    lines = []
    for name, kind, about, samples in families:
        lines += [f"# HELP {_NAME}_{name} {about}", f"# TYPE {_NAME}_{name} {kind}"]
        lines += [f"{_NAME}_{name}{_labels({**labels, **own})} {_number(value)}" for own, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels):
    def escaped(value):
        return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _number(value):
    if isinstance(value, bool | int):
        return str(int(value))
    return "NaN" if math.isnan(value) else "+Inf" if value == math.inf else f"{value:.9g}"
