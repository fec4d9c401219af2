"""Application Auto Scaling. The modules beside this one register its operations here."""

from __future__ import annotations

from server.control.service import Service

AUTOSCALING = Service("application-autoscaling")
