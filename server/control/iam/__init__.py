"""IAM. Importing the modules registers every operation that is built."""

from server.control.iam import (
    access_keys,
    attachments,
    groups,
    inline,
    policies,
    roles,
    service_credentials,
    simulation,
    summary,
    tags,
    users,
)
from server.control.iam.service import IAM

__all__ = [
    "IAM",
    "access_keys",
    "attachments",
    "groups",
    "inline",
    "policies",
    "roles",
    "service_credentials",
    "simulation",
    "summary",
    "tags",
    "users",
]
