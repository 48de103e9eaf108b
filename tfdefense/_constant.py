import numpy as np

from tfdefense.layers.reject import RESOLUTION


def check_varies(name, statistic):
    """Refuses a detector whose score is the same for all calibration samples: no threshold makes it tell anything apart."""
    finite = statistic[np.isfinite(statistic)]
    if len(finite) < 2:
        return
    low, high = float(finite.min()), float(finite.max())
    if high - low <= RESOLUTION * max(1.0, abs(low), abs(high)):
        raise ValueError(
            f"The detector score of layer '{name}' is {high:.6g} for all {len(finite)} calibration samples, so no threshold tells "
            "anything apart. Check that the network is trained and the defense adapted to it; then watch another layer, or, for a "
            "density, give another `sigma`."
        )
