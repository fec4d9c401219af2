"""What callers must be allowed to do at the door's own routes: one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.door.keeper import Doorkeeper

Ask = tuple[str, str]
"""An action, and the kind of resource whose name is in the path; an empty one: everything."""
Handler = Callable[[Request], Awaitable[Response]]

_LISTS: tuple[Ask, ...] = (("sagemaker:ListEndpoints", ""),)
_DEPLOYS: tuple[Ask, ...] = (
    ("sagemaker:CreateModel", "model"),
    ("sagemaker:CreateEndpointConfig", "endpoint-config"),
    ("sagemaker:CreateEndpoint", "endpoint"),
)
ASKS: Mapping[tuple[str, str], tuple[Ask, ...]] = {
    ("GET", "/"): _LISTS,
    ("GET", "/metrics"): (("cloudwatch:GetMetricData", ""),),
    ("GET", "/v1/models"): _LISTS,
    ("GET", "/v1/models/{model}"): (("sagemaker:DescribeEndpoint", "endpoint"),),
    ("GET", "/hearth/endpoints"): _LISTS,
    ("GET", "/hearth/endpoints/{name}"): (("sagemaker:DescribeEndpoint", "endpoint"),),
    ("GET", "/hearth/endpoints/{name}/shadow"): (("sagemaker:DescribeEndpoint", "endpoint"),),
    ("PUT", "/hearth/endpoints/{name}"): _DEPLOYS,
    ("DELETE", "/hearth/endpoints/{name}"): (("sagemaker:DeleteEndpoint", "endpoint"),),
    ("GET", "/hearth/state"): _LISTS,
    ("GET", "/hearth/events"): _LISTS,
}
"""By method and path."""


def asking(routes: list[Route], keeper: Doorkeeper | None) -> list[Route]:
    """Routes for GET, each of which first asks. Raises LookupError for one that is not in `ASKS`."""
    return [Route(route.path, asked(keeper, "GET", route.path, route.endpoint)) for route in routes]


def asked(keeper: Doorkeeper | None, method: str, path: str, handler: Handler) -> Handler:
    """`handler`, once it is known who calls and that they may. Raises LookupError for what is not in `ASKS`."""
    asks = ASKS[method, path]
    if keeper is None:
        return handler
    keeping = keeper

    async def first(request: Request) -> Response:
        await keeping.admit(request, asks)
        return await handler(request)

    return first
