"""The bounds of the dependencies were tried, not guessed."""

import pytest
from packaging.version import Version

from tests import lowest


def test_every_requirement_is_tried_at_its_bound():
    wanted = lowest.requirements()
    assert {"keras", "numpy", "pytest", "ai-edge-litert"} <= {requirement.split(">=")[0] for requirement in wanted}
    assert [pin.replace("==", ">=") for pin in lowest.constraints(wanted)] == wanted


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy>=1.26,<3", "numpy>=1,>=2"])
def test_a_requirement_has_one_bound(requirement):
    with pytest.raises(ValueError, match="one bound"):
        lowest.constraints([requirement])


def test_fast_tests_passed_with_the_bounds_of_today():
    passed, versions = lowest.recorded()
    assert passed == lowest.requirements(), "a requirement changed: run `make test-lowest` and commit tests/lowest.txt"
    for requirement in passed:
        name, bound = requirement.split(">=")
        assert Version(versions[name]) == Version(bound)
