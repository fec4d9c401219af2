"""Policy documents: their JSON, their grammar, their bounds; refused in AWS's words.

The order of the checks is AWS's, so that a document with several faults is refused for the same one: JSON and types,
version, what "legacy parsing" looks at, statement ids, actions, resources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from server.identity.policy.conditions import Conditions, compile_conditions
from server.identity.policy.malformed import LEGACY, MalformedPolicy, PolicyTooLarge
from server.identity.policy.principals import Principals, read_principals

CURRENT, FIRST = "2012-10-17", "2008-10-17"
MAX_STATEMENTS = 1000


class Use(Enum):
    """What a document is for; its size limit in characters other than white space."""

    MANAGED = ("managed", 6_144)
    INLINE = ("inline", 10_240)
    """The sum of a role's inline policies; IAM bounds a user's at 2,048 and a group's at 5,120."""
    TRUST = ("trust", 4_096)
    SESSION = ("session", 2_048)
    RESOURCE = ("resource", 32_768)
    AWS = ("aws", 131_072)
    """A managed policy of AWS's own."""

    @property
    def limit(self) -> int:
        return self.value[1]

    @property
    def has_principal(self) -> bool:
        return self in (Use.TRUST, Use.RESOURCE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement."""

    sid: str
    allow: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...] | None
    """None: a trust policy's, whose resource is the role itself."""
    not_resources: bool
    principals: Principals | None
    not_principals: bool
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class Document:
    version: str
    id: str
    entries: tuple[Entry, ...]

    @property
    def variables(self) -> bool:
        return self.version == CURRENT


FIELDS = frozenset("Sid Effect Action NotAction Resource NotResource Principal NotPrincipal Condition".split())
PAIRS = (("Action", "NotAction"), ("Resource", "NotResource"), ("Principal", "NotPrincipal"))
TRUST_ACTIONS = frozenset(
    "sts:assumerole sts:assumerolewithsaml sts:assumerolewithwebidentity sts:setsourceidentity sts:tagsession"
    " sts:setcontext sts:*".split()
)
PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")
IAM_PATHS = (
    "user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/", "policy/",
    "sms-mfa/", "saml-provider/", "oidc-provider/", "report/", "access-report/",
)  # fmt: skip


def read(given: str | Mapping[str, Any], use: Use) -> Document:
    """Raises MalformedPolicy, and PolicyTooLarge for too many characters."""
    raw = _load(given, use)
    statements = _statements(raw)
    version = raw.get("Version", FIRST)
    if version not in (CURRENT, FIRST):
        raise MalformedPolicy
    if use is Use.MANAGED and version != CURRENT:
        raise MalformedPolicy("Policy document must be version 2012-10-17 or greater.")
    variables = version == CURRENT
    conditions = [
        compile_conditions(given.get("Condition", {}), variables=variables, allow=given["Effect"].lower() == "allow")
        for given in statements
    ]
    if any(statement["Effect"] not in ("Allow", "Deny") for statement in statements):
        raise MalformedPolicy(LEGACY)
    resource_fault = _resource_fault(statements)
    _check_sids(statements, use)
    if any(not _listed(statement, "Action") for statement in statements):
        raise MalformedPolicy("Policy statement must contain actions.")
    if resource_fault:
        raise MalformedPolicy(resource_fault)
    for statement in statements:
        for action in _listed(statement, "Action"):
            _check_action(action, use)
    _check_use(statements, use)
    entries = (_entry(statement, parts) for statement, parts in zip(statements, conditions, strict=True))
    return Document(version, str(raw.get("Id", "")), tuple(entries))


def size(text: str) -> int:
    """Characters as IAM counts them: all but white space."""
    return sum(not character.isspace() for character in text)


def _load(given: str | Mapping[str, Any], use: Use) -> dict[str, Any]:
    text = given if isinstance(given, str) else json.dumps(given)
    if len(text) > 131_072 or size(text) > use.limit:
        raise PolicyTooLarge(use.limit)
    try:
        raw = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise MalformedPolicy from None
    if not isinstance(raw, dict) or not raw.keys() <= {"Version", "Id", "Statement"}:
        raise MalformedPolicy
    if not all(isinstance(raw.get(name, ""), str) for name in ("Version", "Id")):
        raise MalformedPolicy
    return raw


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedPolicy
    return found


def _statements(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = raw.get("Statement")
    statements = [given] if isinstance(given, dict) else given
    if not isinstance(statements, list) or not 0 < len(statements) <= MAX_STATEMENTS:
        raise MalformedPolicy
    for statement in statements:
        _check_types(statement)
    return statements


def _check_types(statement: Any) -> None:
    if not isinstance(statement, dict) or not statement.keys() <= FIELDS:
        raise MalformedPolicy
    if any(plain in statement and negated in statement for plain, negated in PAIRS):
        raise MalformedPolicy
    if not isinstance(statement.get("Sid", ""), str):
        raise MalformedPolicy
    if str(statement.get("Effect")).lower() not in ("allow", "deny"):
        raise MalformedPolicy
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        value = statement.get(name, "")
        if not isinstance(value, str) and not (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            raise MalformedPolicy
    condition = statement.get("Condition", {})
    if not isinstance(condition, dict) or not all(isinstance(keys, dict) for keys in condition.values()):
        raise MalformedPolicy


def _listed(statement: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The values of an element or of its Not twin; none when neither is there."""
    value = statement.get(name, statement.get(f"Not{name}", ()))
    return (value,) if isinstance(value, str) else tuple(value)


def _check_sids(statements: Sequence[Mapping[str, Any]], use: Use) -> None:
    sids = [statement["Sid"] for statement in statements if statement.get("Sid")]
    if len(set(sids)) != len(sids):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    if not use.has_principal and not all(sid.isascii() and sid.isalnum() for sid in sids):
        raise MalformedPolicy(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression"
            " [0-9A-Za-z]*"
        )


def _check_action(action: str, use: Use) -> None:
    vendor, colon, name = action.partition(":")
    if not colon and action != "*":
        raise MalformedPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
    if ":" in name:
        raise MalformedPolicy("Actions/Condition can contain only one colon.")
    if vendor != "*" and not (vendor.isascii() and vendor.replace("-", "").replace(".", "").isalnum()):
        raise MalformedPolicy(f"Vendor {vendor} is not valid")
    if use is Use.TRUST and action.lower() not in TRUST_ACTIONS:
        raise MalformedPolicy("AssumeRole policy may only specify STS AssumeRole actions.")


def _resource_fault(statements: Sequence[Mapping[str, Any]]) -> str:
    """The first resource that is no ARN. Raises MalformedPolicy for what legacy parsing fails on."""
    for statement in statements:
        resources = [resource for resource in _listed(statement, "Resource") if resource != "*"]
        for resource in resources:
            if fault := _not_an_arn(resource):
                return fault
        if any(_fails_legacy_parsing(resource) for resource in resources):
            raise MalformedPolicy(LEGACY)
    return ""


def _not_an_arn(resource: str) -> str:
    parts = resource.split(":", 5)
    if len(parts) == 1:
        return f'Resource {resource} must be in ARN format or "*".'
    if parts[1] != "*" and parts[1] not in PARTITIONS:
        rest = ":".join(parts[2:] + ["*"] * (6 - len(parts)))
        return f'Partition "{parts[1]}" is not valid for resource "arn:{parts[1]}:{rest}".'
    if len(parts) == 2:
        return "Resource vendor must be fully qualified and cannot contain regexes."
    region, path = (parts[3] if len(parts) > 3 else ""), (parts[5] if len(parts) > 5 else "*")
    if parts[2] == "iam":
        if region:
            return f"IAM resource {resource} cannot contain region information."
        if path != "*" and not path.startswith(IAM_PATHS) and path != "root":
            return f'IAM resource path must either be "*" or start with {", ".join(IAM_PATHS)}.'
    if parts[2] == "s3" and region not in ("", "*") and not path.startswith("accesspoint/"):
        return f"Resource {resource} can not contain region information."
    return ""


def _fails_legacy_parsing(resource: str) -> bool:
    return (resource.count(":") < 5 and "::" in resource) or not resource.split(":")[2]


def _check_use(statements: Sequence[Mapping[str, Any]], use: Use) -> None:
    for statement in statements:
        principal = "Principal" in statement or "NotPrincipal" in statement
        if principal and not use.has_principal:
            raise MalformedPolicy("Policy document should not specify a principal.")
        if not principal and use.has_principal:
            raise MalformedPolicy("Missing required field Principal")
        if use is Use.TRUST:
            if "Resource" in statement or "NotResource" in statement:
                raise MalformedPolicy("Has prohibited field Resource")
        elif not _listed(statement, "Resource"):
            raise MalformedPolicy("Policy statement must contain resources.")


def _entry(statement: Mapping[str, Any], conditions: Conditions) -> Entry:
    principal = statement.get("Principal", statement.get("NotPrincipal"))
    return Entry(
        sid=statement.get("Sid", ""),
        allow=statement["Effect"] == "Allow",
        actions=_listed(statement, "Action"),
        not_actions="NotAction" in statement,
        resources=_listed(statement, "Resource") or None,
        not_resources="NotResource" in statement,
        principals=None if principal is None else read_principals(principal),
        not_principals="NotPrincipal" in statement,
        conditions=conditions,
    )
