"""What `td.predict` and the attacks share of a Ray cluster: its workers, and how models get to them."""

from tfdefense._cluster.models import check_keras, from_bytes, to_bytes
from tfdefense._cluster.sending import Received, Sent
from tfdefense._cluster.workers import Workers

__all__ = ["Received", "Sent", "Workers", "check_keras", "from_bytes", "to_bytes"]
