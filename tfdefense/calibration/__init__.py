"""What of a defense is not trained by gradient: `adapt` fits its layers, `calibrate` sets its thresholds."""

from tfdefense.calibration.adapting import adapt
from tfdefense.calibration.running import check_images, forget_compiled, run_batches
from tfdefense.calibration.thresholds import calibrate, check_varies

__all__ = ["adapt", "calibrate", "check_images", "check_varies", "forget_compiled", "run_batches"]
