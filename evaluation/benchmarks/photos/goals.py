"""What the chosen model of photos was meant to do, on images that neither fitted, calibrated nor chose it."""

from evaluation.benchmarks import zoo_photos
from evaluation.benchmarks.photos import candidates, material, tables
from evaluation.runner.goals import Goal


def _chosen(**fields):
    def value(of):
        rows = [row for row in of.all(part="report", **fields) if tables.name_of(row) == of.settings["chosen"]]
        return next((row.value for row in rows if row.perturbation == fields.get("perturbation", "")), None)

    return value


def _compare(metric):
    """The most over the attacks."""
    return lambda of: max(row.value for row in of.all(table="speed.compare", metric=metric))


GOALS = {
    ("photos", "imagenette_small"): [
        Goal("right on clean photos of the ten", _chosen(metric="accuracy"), least=candidates.LEAST["right"]),
        Goal("clean photos of the ten rejected", _chosen(metric="false-positive rate"), most=candidates.MOST["rejected"]),
        *(Goal(f"{name}: rejected", _chosen(ood=name), least=candidates.LEAST[name]) for name in material.TESTED),
        Goal(
            "photos of the ten at 32 pixels: rejected",
            _chosen(metric="false-positive rate", perturbation=f"resized to {material.SMALL} pixels"),
            remark="a control: a part of what is rejected of CIFAR-100 is rejected for its size alone",
        ),
    ],
    ("photos_speed", "imagenette_small"): [
        *(
            Goal(f"a decision with {name} over the plain network's", lambda of, name=name: of(system=name), most=most)
            for name, most in {
                zoo_photos.NAME: 1.1,
                "energy": 1.1,
                "vim": 1.1,
                "mahalanobis": 1.1,
                "energy or vim": 1.1,
                "knn": 1.2,
            }.items()
        ),
        Goal("td.compare of ten candidates: minutes", _compare("minutes"), most=10),
        Goal("td.compare of ten candidates: GiB at most", _compare("GiB"), most=3),
    ],
}
