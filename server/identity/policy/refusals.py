"""Why a request was refused, as AWS's access denied messages say it."""

from __future__ import annotations

from server.identity.policy.evaluate import Access, Decision

NAMES = {
    "identity": "identity-based policy",
    "resource": "resource-based policy",
    "boundary": "permissions boundary",
    "session": "session policy",
}


def refusal(access: Access, decision: Decision) -> str:
    """The message of AccessDenied (AccessDeniedException) for a decision that is not `allowed`."""
    asked = f"User: {access.principal_arn} is not authorized to perform: {access.action} on resource: {access.resource}"
    kind = NAMES[decision.side or "identity"]
    if decision.outcome == "explicitDeny":
        article = "an" if kind.startswith("i") else "a"
        return f"{asked} with an explicit deny in {article} {kind}"
    return f"{asked} because no {kind} allows the {access.action} action"
