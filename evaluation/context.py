"""What a protocol is given: its common options, trained networks, finished parts, and the place for what it finds."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from evaluation import results
from evaluation.workers import alone
from tfdefense._files import write_file, write_text
from tfdefense.kept import everything


@dataclasses.dataclass
class Context:
    """One run of one protocol.

    Args:
        samples: The number asked for with `--samples`, or None; see `samples_or`.
        output: Where the results go.
        kept: Where the parts of an interrupted run are kept.
        commit: Of the code as it is when the run starts; a long run may outlive an edit.
        options: Of the command line, as the page repeats them.
        each: What was found on each sample, by name: in the JSON alone, for whoever wants to compare in pairs.
        parts: Seconds of each part, whichever process or run measured it: the next run tells by them how long it will take.
        worker, workers: Which of how many processes on this run it is; see `turn`.
    """

    protocol: str
    dataset: str
    quick: bool
    samples: int | None
    data_dir: Path | None
    output: Path
    kept: Path
    rows: list = dataclasses.field(default_factory=list)
    series: list = dataclasses.field(default_factory=list)
    settings: dict = dataclasses.field(default_factory=dict)
    headings: dict = dataclasses.field(default_factory=dict)
    each: dict = dataclasses.field(default_factory=dict)
    commit: str = dataclasses.field(default_factory=lambda: results.commit())
    worker: int = 0
    workers: int = 1
    options: str = ""
    used: set = dataclasses.field(default_factory=set)
    parts: dict = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def samples_or(self, full, quick):
        """The number of samples: as asked for, else that of a quick or a full run."""
        return self.samples or (quick if self.quick else full)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def row(self, row, what, ours, *, paper=None, samples=None, note="", **more):
        """Adds a number; `row` is its id in the list of the papers' results, `more` are further columns."""
        entry = {"row": row, "what": what, **more, "ours": ours, "paper": paper, "samples": samples, "note": note}
        self.rows.append(entry)

    def curve(self, row, what, x, y, deviation=None):
        values = {"x": list(x), "y": list(y)} | ({} if deviation is None else {"deviation": list(deviation)})
        self.series.append({"row": row, "what": what, **values})

    def network(self, recipe, *, shared=False, **settings):
        """The path of a trained model; trains it first when the cache does not have it.

        `shared` says that other processes of the run train other networks meanwhile; else they wait for this one.
        """
        from evaluation.networks import trained

        return trained(recipe, data_dir=self.data_dir, all_cores=self.workers > 1 and not shared, **settings)

    def turn(self, items):
        """The items in the order in which this process takes them: of two one begins at the end, so that they meet once.

        Going the same way, one would catch up with the other and wait for each of its parts from there on.
        """
        items = list(items)
        first = len(items) * (self.worker // 2) // ((self.workers + 1) // 2)
        items = items[first:] + items[:first]
        return items[::-1] if self.worker % 2 else items

    def part(self, name, measure, *arguments):
        """`measure(*arguments)`, or its JSON from another process or an interrupted run with the same code and settings."""
        path = self._once(name, ".json", lambda path: write_text(path, json.dumps(measure(*arguments))))
        return json.loads(path.read_text())

    def model(self, name, make, *arguments):
        """The model `make(*arguments)`, kept as a part is: training it again would cost as much as measuring it."""
        import keras

        import tfdefense.layers  # noqa: F401 - the model may end in one of them

        def write(path):
            write_file(path, make(*arguments).save)

        return keras.models.load_model(self._once(name, ".keras", write), compile=False)

    def _once(self, name, suffix, write):
        """The file of that name and of these settings and code; written by who comes first, whoever comes later waits."""
        data = self.data_dir or os.environ.get("TFDEFENSE_DATA")
        place = None if data is None else str(Path(data).resolve())
        key = json.dumps([self.settings, self.quick, self.samples, self.commit, place, name], sort_keys=True, default=str)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = self.kept / f"{self.protocol}-{self.dataset}-{digest}{suffix}"
        self.used.add(path)
        with alone(path):
            if path.exists():
                about = f"taken from {path}"
            else:
                started = time.perf_counter()
                # A part that is interrupted goes on with the batches of its attacks that are there.
                with everything(path.with_suffix(".batches")):
                    write(path)
                shutil.rmtree(path.with_suffix(".batches"), ignore_errors=True)
                took = time.perf_counter() - started
                write_text(path.with_suffix(".seconds"), f"{took:.1f}")
                about = f"{took:.0f} s"
            with contextlib.suppress(FileNotFoundError):  # whoever measured it was stopped just then
                self.parts[name] = float(path.with_suffix(".seconds").read_text())
        self.say(f"{name}: {about} ({self.progress()})")
        return path

    def progress(self):
        """How far the run is; how long it will take where an earlier one had the same parts, whatever its settings were."""
        so_far = f"part {len(self.parts)}, {_length(time.perf_counter() - self.started)} so far"
        earlier = results.earlier(self).get("parts", {})
        both, rest = earlier.keys() & self.parts, sum(earlier[name] for name in earlier.keys() - self.parts.keys())
        if not both or not rest:
            return so_far
        pace = sum(self.parts[name] for name in both) / max(sum(earlier[name] for name in both), 0.1)
        left = rest * pace / self.workers
        return f"part {len(self.parts)} of {len(earlier.keys() | self.parts.keys())}, about {_length(left)} left"

    def forget_parts(self):
        """Those of this run: another of the same protocol may have more to do."""
        for path in self.used:
            for own in (path, path.with_suffix(".seconds"), path.with_name(f"{path.name}.lock")):
                own.unlink(missing_ok=True)


def _length(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
