"""GetAccountSummary: how many there are of what, and how many there may be."""

from __future__ import annotations

from server.control.iam import access_keys, attachments, groups, inline, policies
from server.control.iam.service import IAM, directory
from server.control.operations import Answer, Context, Request
from server.identity.directory import ACCESS_KEY, GROUP, POLICY, ROLE, USER
from server.identity.policy.document import Use


@IAM.operation
def get_account_summary(context: Context, _request: Request) -> Answer:
    unit = directory(context)
    rows = {entity: unit.all(entity) for entity in (USER, GROUP, ROLE, POLICY)}
    return {
        "SummaryMap": {
            "Users": len(rows[USER]), "Groups": len(rows[GROUP]), "Roles": len(rows[ROLE]),
            "Policies": len(rows[POLICY]),
            "PolicyVersionsInUse": sum(len(row.document["Versions"]) for row in rows[POLICY]),
            "AccountAccessKeysPresent": int(bool(unit.owned(ACCESS_KEY, unit.account))),
            "AccountMFAEnabled": 0, "MFADevices": 0, "MFADevicesInUse": 0,
            "AccessKeysPerUserQuota": access_keys.MOST, "GroupsPerUserQuota": groups.GROUPS_OF_A_USER,
            "AttachedPoliciesPerUserQuota": attachments.MOST, "AttachedPoliciesPerGroupQuota": attachments.MOST,
            "AttachedPoliciesPerRoleQuota": attachments.MOST, "PolicySizeQuota": Use.MANAGED.limit,
            "VersionsPerPolicyQuota": policies.VERSIONS, "UserPolicySizeQuota": inline.LARGEST[USER],
            "GroupPolicySizeQuota": inline.LARGEST[GROUP],
        }
    }  # fmt: skip
