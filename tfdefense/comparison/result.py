"""What a comparison found: a row for each candidate, the winner, and the table that people read."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from tfdefense import __version__
from tfdefense._files import plain, write_text
from tfdefense._validation import Model, PathLike
from tfdefense.metrics import share_interval

UNDEFENDED = "no defense"


@dataclass(frozen=True)
class Row:
    """What one candidate does on samples that it was not set up or chosen on. Shares are of 1.

    Attributes:
        name: Of the candidate.
        right: Clean samples that get their class.
        rejected: Clean samples that are rejected.
        risk: Wrong ones among the clean samples that are accepted.
        aurc: Area under the risk-coverage curve.
        ood: Rejected samples of each out-of-distribution set.
        benign: Rejected samples of each benign perturbation.
        robust_accuracy: Right or rejected under the attack; None without one, or where it found no gradient.
        setup_seconds: Of attaching, adapting and calibrating.
        predict_ratio: Time to predict, in times of the undefended model.
        added_kib: Size of the weights that the defense adds.
        samples: How many samples stand behind each share: "clean", "attack" and the names of `ood`.
        score: What the winner was chosen by, measured on other samples; larger is better.
    """

    name: str
    right: float
    rejected: float
    risk: float
    aurc: float | None
    ood: dict[str, float] = field(default_factory=dict)
    benign: dict[str, float] = field(default_factory=dict)
    robust_accuracy: float | None = None
    setup_seconds: float = 0.0
    predict_ratio: float = 1.0
    added_kib: float = 0.0
    samples: dict[str, int] = field(default_factory=dict)
    score: float | None = None

    @property
    def mean_benign(self) -> float | None:
        """Mean share of rejected samples over the benign perturbations."""
        return sum(self.benign.values()) / len(self.benign) if self.benign else None

    def interval(self, of: str) -> tuple[float, float] | None:
        """Wilson's 95 % interval of "right", "rejected", "robust_accuracy", or of an out-of-distribution set by its name.

        >>> row = Row("energy", right=0.9, rejected=0.05, risk=0.02, aurc=0.01, samples={"clean": 200})
        >>> [round(end, 2) for end in row.interval("rejected")]
        [0.03, 0.09]
        """
        places = {"right": "clean", "rejected": "clean", "robust_accuracy": "attack"}
        share = self.ood[of] if of in self.ood else getattr(self, of)
        count = self.samples.get(places.get(of, of), 0)
        return share_interval(share, count) if share is not None and count else None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `td.compare` found.

    Attributes:
        rows: One `Row` for each candidate, the undefended model first.
        winner: The defended model that was chosen, ready to save.
        chosen: Its name.
        settings: What was compared how.
        left_out: Candidates that this model can't have, with a sentence each.
    """

    rows: tuple[Row, ...]
    winner: Model
    chosen: str
    settings: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"No candidate {name!r}. Compared were {', '.join(row.name for row in self.rows)}.")

    def tables(self) -> list[list[list[str]]]:
        """Two tables as text, what candidates do and what they cost: a head, then a line for each row; the winner is marked."""
        ood, attacked = list(self.rows[0].ood), any(row.robust_accuracy is not None for row in self.rows)
        does = [["", "right", "clean rejected", *(f"{name} rejected" for name in ood), "benign rejected"]]
        does[0] += ["robust accuracy"] if attacked else []
        costs = [["", "wrong of accepted", "AURC", "set up", "predict", "added"]]
        for row in self.rows:
            name = f"{row.name} *" if row.name == self.chosen else row.name
            shares = [(row.right, "right"), (row.rejected, "rejected"), *((row.ood[each], each) for each in ood)]
            line = [name, *(_with_interval(share, row.interval(of)) for share, of in shares), _share(row.mean_benign)]
            line += [_with_interval(row.robust_accuracy, row.interval("robust_accuracy"))] if attacked else []
            does.append(line)
            aurc, risk = "-" if row.aurc is None else f"{row.aurc:.4f}", _share(None if row.risk != row.risk else row.risk)
            spent = [f"{row.setup_seconds:.1f} s", f"{row.predict_ratio:.2f} x", f"{row.added_kib:,.0f} KiB"]
            costs.append([name, risk, aurc, *(["-"] * 3 if row.name == UNDEFENDED else spent)])
        return [does, costs]

    def summary(self) -> str:
        """The tables to print, with what they are of."""
        blocks = []
        for lines in self.tables():
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            blocks += ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines] + [""]
        return "\n".join([*blocks, *self.notes()])

    def notes(self) -> list[str]:
        about = self.settings
        notes = [
            f"* chosen by {about['by']}, on {about['chosen_on']} other samples than the {about['calibrated_on']} that calibrate "
            f"and the {about['reported']} of this table, all of {about['held_out']}. "
            f"Promised of each, the one that was chosen too: {about['promise']}. In brackets 95 % intervals."
        ]
        return [*notes, *(f"left out: {name}: {reason}" for name, reason in self.left_out.items())]

    def write_json(self, path: PathLike) -> None:
        """All numbers as JSON."""
        rows = [
            dataclasses.asdict(row) | {"intervals": {name: row.interval(name) for name in ("right", "rejected", *row.ood)}}
            for row in self.rows
        ]
        content = {"tfdefense": __version__, "settings": self.settings, "chosen": self.chosen, "left_out": self.left_out}
        write_text(path, json.dumps(plain(content | {"rows": rows}), indent=2) + "\n")

    def __repr__(self):
        return f"Comparison({len(self.rows) - 1} candidates, {self.chosen!r} chosen by {self.settings['by']})"


def _share(share):
    return "-" if share is None else f"{share:.1%}"


def _with_interval(share, interval):
    return _share(share) + (f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else "")
