"""The AWS services that this address answers for, and how a call finds its own."""

from __future__ import annotations

from collections.abc import Mapping

from server.control import cloudtrail, cloudwatch, logs, organizations, resources, service_quotas, sts
from server.control.autoscaling import AUTOSCALING
from server.control.iam import IAM
from server.control.kms import KMS
from server.control.service import Service

SERVICES: Mapping[str, Service] = {
    service.signing_name: service
    for service in (
        resources.SAGEMAKER, AUTOSCALING, cloudtrail.CLOUDTRAIL, cloudwatch.CLOUDWATCH, IAM, KMS, logs.LOGS,
        organizations.ORGANIZATIONS, service_quotas.SERVICE_QUOTAS, sts.STS,
    )
}  # fmt: skip
"""By the name that requests are signed for."""

_BY_TARGET = {service.target_prefix: service for service in SERVICES.values() if service.target_prefix}


def by_target(prefix: str) -> Service | None:
    """The service whose calls carry `X-Amz-Target: PREFIX.Operation`."""
    return _BY_TARGET.get(prefix)


def by_query(signing_name: str, action: str, version: str) -> Service | None:
    """The service of a call in the query protocol: the one it is signed for, else the one with that API."""
    if signing_name:
        return SERVICES.get(signing_name)
    known = (each for each in SERVICES.values() if each.namespace and action in each.operations)
    return next((each for each in known if version in ("", each.version)), None)
