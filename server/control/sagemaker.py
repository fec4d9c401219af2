"""SageMaker itself. The modules in `resources` register its operations here."""

from __future__ import annotations

from server.control.service import Service

SAGEMAKER = Service("sagemaker")
