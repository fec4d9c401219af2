"""CloudWatch itself. The modules beside this one register its operations here."""

from __future__ import annotations

from server.control.service import Service

CLOUDWATCH = Service("cloudwatch")
