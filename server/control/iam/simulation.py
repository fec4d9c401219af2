"""SimulatePrincipalPolicy and SimulateCustomPolicy: what the policies would decide, by the code that decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from server.control.iam.service import IAM, directory, paged
from server.control.operations import Answer, Context, Request
from server.errors import NotFound, Refusal
from server.identity.directory import GROUP, POLICY, ROLE, USER, Directory
from server.identity.policy.document import Use
from server.identity.policy.malformed import MalformedPolicy
from server.identity.policy.policy import Policy, compile_policy
from server.identity.policy.simulate import Simulation, entries, simulate
from server.identity.principal import root_arn
from server.identity.snapshot import Source, managed, sources
from server.store.store import Resource

SUPPLIED = frozenset(
    "aws:currenttime aws:epochtime aws:principalarn aws:principalaccount aws:principaltype aws:userid"
    " aws:username".split()
)
"""Condition keys that need not be given: the simulation fills them."""


@IAM.operation
def simulate_principal_policy(context: Context, request: Request) -> Answer:
    """Of a user, group or role, with whatever policies the request adds; the account's root may do all."""
    arn = request["PolicySourceArn"]
    unit = directory(context)
    found, boundary = _policies(unit, arn)
    found += _given(request.get("PolicyInputList", ()), "PolicyInputList")
    bounds = _given(request.get("PermissionsBoundaryPolicyInputList", ()), "PermissionsBoundaryPolicyInputList")
    return _answer(context, request, found, bounds[0] if bounds else boundary, request.get("CallerArn", arn))


@IAM.operation
def simulate_custom_policy(context: Context, request: Request) -> Answer:
    found = _given(request["PolicyInputList"], "PolicyInputList")
    bounds = _given(request.get("PermissionsBoundaryPolicyInputList", ()), "PermissionsBoundaryPolicyInputList")
    if request.get("OrderedOrganizationPolicyInputList"):
        raise Refusal("InvalidInputException", "Hearth has no organizations: OrderedOrganizationPolicyInputList.")
    caller = request.get("CallerArn", f"arn:aws:iam::{context.account}:user/simulated")
    return _answer(context, request, found, bounds[0] if bounds else None, caller)


def _answer(
    context: Context, request: Request, found: Sequence[Policy], boundary: Policy | None, caller: str
) -> dict[str, Any]:
    resource = request.get("ResourcePolicy")
    simulation = Simulation(
        caller, _owner(context, request), found, boundary,
        _given([resource], "ResourcePolicy", Use.RESOURCE) if resource else (),
        entries(request.get("ContextEntries", ())), SUPPLIED,
    )  # fmt: skip
    results = simulate(simulation, request["ActionNames"], request.get("ResourceArns", ("*",)))
    numbered = [(f"{number:06}", result) for number, result in enumerate(results)]
    answer = paged(request, "EvaluationResults", numbered, lambda each: each[0])
    return {**answer, "EvaluationResults": [result for _, result in answer["EvaluationResults"]]}


def _owner(context: Context, request: Request) -> str:
    """The account that the resources belong to."""
    given = request.get("ResourceOwner", "")
    parts = given.split(":")
    return parts[4] if len(parts) > 4 else given or context.account


def _policies(unit: Directory, arn: str) -> tuple[list[Policy], Policy | None]:
    """Those of the source that `arn` names, and its boundary. Raises NotFound, and InvalidInput for no such ARN."""
    if arn == root_arn(unit.account):
        return [], None
    kinds = {entity.title.lower(): entity for entity in (USER, GROUP, ROLE)}
    resource = arn.split(":", 5)[-1]
    entity = kinds.get(resource.partition("/")[0])
    if not arn.startswith("arn:aws:iam::") or entity is None:
        raise Refusal("InvalidInputException", f"Invalid Entity Arn: {arn} does not clearly define entity type and "
                                               "name.")  # fmt: skip
    row = unit.by_arn(entity, arn)
    if row is None:
        raise NotFound(f"The {entity.title.lower()} with name {arn.rpartition('/')[2]} cannot be found.")
    own = {policy.arn: policy for policy in unit.all(POLICY)}
    found = [_compiled(source) for source in sources(row, _groups(unit, row), own)]
    boundary = row.document.get("PermissionsBoundary")
    return found, _compiled(managed(boundary, own)) if boundary else None


def _groups(unit: Directory, row: Resource) -> Iterable[Resource]:
    return unit.groups_of(row) if row.kind == USER.kind else ()


def _compiled(source: Source) -> Policy:
    return compile_policy(source.text, id=source.id, use=Use.AWS)


def _given(texts: Iterable[str], member: str, use: Use = Use.AWS) -> list[Policy]:
    """Raises InvalidInput."""
    try:
        return [
            compile_policy(text, id=f"{member}.{number}", use=use) for number, text in enumerate(texts, 1)
        ]  # fmt: skip
    except MalformedPolicy as error:
        raise Refusal("InvalidInputException", f"{member}: {error.message}") from None
