"""CloudWatch: metrics and alarms. Importing it registers every operation that is built."""

from server.control.cloudwatch import alarms, metrics
from server.control.cloudwatch.service import CLOUDWATCH

__all__ = ["CLOUDWATCH", "alarms", "metrics"]
