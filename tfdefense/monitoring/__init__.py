"""Whether what a service sees is still what its model was calibrated on."""

from tfdefense.monitoring.monitor import Monitor, Status
from tfdefense.monitoring.reference import of_suspicion, reference

__all__ = ["Monitor", "Status", "of_suspicion", "reference"]
