"""STS, as far as SageMaker's clients need it: who am I?"""

from __future__ import annotations

from server.control.operations import Answer, Context, Request
from server.control.service import Service

STS = Service("sts")


@STS.operation
def get_caller_identity(context: Context, _request: Request) -> Answer:
    principal = context.principal
    return {"Arn": principal.arn, "UserId": principal.id, "Account": principal.account}
