"""The numbers of Lu et al. (2017), tables 1 to 4, to stand beside ours: their classifier is a VGG19 on 80,000 test pairs."""

SYSTEMS = ("plain", "branch", "Det A", "Det ABC")
RATES = ("F->T", "T->F", "T->T rejected")
WORST_CASE = "type II, worst case"
TYPE_ONE = ("type I", "type I transfer, fast sign", "type I transfer, gradient")
TYPE_TWO = ("type II", "type II transfer, fine-tuned", "type II transfer, with a branch")
MEANS = {"type I": TYPE_ONE, "type II": TYPE_TWO, "type I transfers": TYPE_ONE[1:], "type II transfers": TYPE_TWO[1:]}
FAR = 8  # times the size of the other attacks, where nothing should stand
# Table 4, in percent: F->T, T->F and T->T rejected of each system; the plain network rejects nothing.
_TABLE_4 = {
    "no attack": ((16.3, 0.6), (8.4, 0, 10.2), (9.7, 0, 9.4), (8.4, 0, 9.9)),
    "type I": ((32.8, 55.3), (13.4, 9.5, 6.0), (9.9, 5.0, 6.1), (8.4, 0.3, 6.3)),
    "type I transfer, fast sign": ((30.6, 2.8), (14.9, 2.2, 54.1), (7.5, 2.5, 44.1), (6.6, 1.9, 47.2)),
    "type II": ((32.8, 55.3), (26.3, 21.9, 11.9), (16.3, 3.7, 6.2), (13.2, 2.6, 9.6)),
    "type II transfer, fine-tuned": ((20.0, 3.1), (17.1, 0, 43.5), (17.2, 0, 45.6), (17.2, 0, 48.4)),
    "type II transfer, with a branch": ((16.3, 0.6), (13.7, 0, 15.6), (10.3, 0, 12.5), (9.1, 0, 13.1)),
    # With transfers from a network of another architecture, a ResNet, which are not measured here.
    "type I, mean": ((28.6, 30.9), (12.8, 12.3, 30.8), (6.0, 8.3, 26.7), (5.0, 6.4, 27.9)),
    "type II, mean": ((21.7, 25.8), (16.6, 14.5, 26.0), (9.6, 8.6, 22.5), (8.4, 7.84, 23.9)),
}
# Table 1, Det A: F->T of the average over unfamiliar data, and the averages over transfers, from a ResNet too.
_UNFAMILIAR = {"Det A": 17.3}
_TRANSFERS = {"type I transfers, mean": (4.6, 9.4, 33.6), "type II transfers, mean": (7.9, 9.8, 26.6)}
# Tables 2 and 3, in percent: right by the classifier; flagged by B, A, both, either, and by either of what is taken for true.
# The tables have no C, the detector on pool5, alone.
COLUMNS = ("right", "B", "A", "A and B", "A or B", "A or B, of those taken for true", "C")
_FLAGGED = {
    "forged": (91.8, 15.2, 17.1, 14.3, 18.8, 19.6),
    "real": (97.7, 10.1, 11.6, 9.2, 12.7, 10.8),
    "forged, type I": (33.1, 89.1, 88.6, 87.3, 90.4, 88.9),
    "real, type I": (15.3, 81.3, 81.0, 79.1, 83.3, 83.7),
    "no depth": (76.5, 6.5, 25.6, 6.1, 26.0, 82.0),
    "resampled": (75.2, 54.9, 60.6, 51.3, 63.4, 87.6),
    "low-quality jpeg": (36.4, 80.1, 79.2, 77.2, 82.2, 81.8),
    # Sintel: a film that was rendered.
    "rendered": (27.6, 45.3, 51.7, 39.7, 57.2, 61.4),
}


def knowledge(attack):
    """Type I knows the classifier alone, type II the detectors; a transfer has a network of its own."""
    return "black box" if "transfer" in attack else "oblivious" if attack == "type I" else "adaptive"


def rate(attack, system, which):
    """A rate of table 4 (for unfamiliar data of table 1) as a share, or None."""
    if attack == "unfamiliar":
        percent = _UNFAMILIAR.get(system) if which == "F->T" else None
    elif attack in _TRANSFERS:
        percent = dict(zip(RATES, _TRANSFERS[attack], strict=True)).get(which) if system == "Det A" else None
    elif attack in _TABLE_4 and system in SYSTEMS:
        percent = dict(zip(RATES, _TABLE_4[attack][SYSTEMS.index(system)], strict=False)).get(which)
    else:
        percent = None
    return _share(percent)


def flagged(samples, column):
    """A number of tables 2 and 3 as a share, or None."""
    return _share(dict(zip(COLUMNS, _FLAGGED.get(samples, ()), strict=False)).get(column))


def _share(percent):
    return None if percent is None else round(percent / 100, 4)
