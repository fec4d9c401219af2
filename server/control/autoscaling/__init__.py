"""Application Auto Scaling: targets, policies, schedules. Importing it registers every operation that is built."""

from server.control.autoscaling import activities, policies, schedules, tags, targets
from server.control.autoscaling.service import AUTOSCALING

__all__ = ["AUTOSCALING", "activities", "policies", "schedules", "tags", "targets"]
