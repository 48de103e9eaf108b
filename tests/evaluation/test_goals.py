"""Goals are judged by the numbers of the results, and say so where they are not met."""

import json

import pytest

from evaluation.runner import goals, results
from evaluation.runner.goals import Goal


@pytest.fixture
def one_goal(monkeypatch):
    def make(**limits):
        goal = Goal("a less b", lambda of: of["a"] - of["b"], remark="because", **limits)
        monkeypatch.setattr(goals, "GOALS", {("p", "digits"): [goal]})

    return make


def table(a, b):
    return goals.table({"protocol": "p", "dataset": "digits", "rows": [{"what": "a", "ours": a}, {"what": "b", "ours": b}]})


@pytest.mark.parametrize(
    "limits, a, line",
    [
        ({"least": 0.5}, 1.0, "| a less b | 0.5 | at least 0.5 | yes | - |"),
        ({"least": 0.5}, 0.9, "| a less b | 0.4 | at least 0.5 | **no** | because |"),
        ({"most": 0.5}, 1.1, "| a less b | 0.6 | at most 0.5 | **no** | because |"),
        ({}, 1.0, "| a less b | 0.5 | - | - | because |"),
        ({"least": 0.5}, None, "| a less b | - | at least 0.5 | not measured | - |"),
    ],
)
def test_goal_is_met_or_not(one_goal, limits, a, line):
    one_goal(**limits)
    assert table(a, 0.5).splitlines()[2:] == [line]


def test_number_of_no_samples_is_not_measured_for_a_reason(one_goal):
    one_goal(row="a")
    assert table(None, 0.5).splitlines()[2:] == ["| a less b | - | - | not measured | because |"]


def test_protocol_without_goals_has_no_table(one_goal):
    one_goal()
    assert goals.table({"protocol": "q", "dataset": "digits", "rows": []}) == ""


@pytest.mark.parametrize("protocol, dataset", goals.GOALS)
def test_goals_find_their_rows(protocol, dataset):
    """A row that was renamed would leave a goal without its number."""
    path = results.RESULTS / f"{protocol}-{dataset}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    content = json.loads(path.read_text())
    of = {row["what"]: row["ours"] for row in content["rows"]}
    for goal in goals.GOALS[protocol, dataset]:
        # Of no samples there is no number.
        assert goal.row in of or goal.measured(of) is not None, goal.what
