"""Which inference component a request is for, in SageMaker's words where it names none or the wrong one."""

from __future__ import annotations

from server.dialects.identity import Identity
from server.errors import BadRequest, NotReady

FIELD = "InferenceComponentName"


def missing() -> BadRequest:
    return BadRequest(
        "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
        "Please include Inference Component Name header or consider using SageMaker models.",
        field=FIELD,
    )


def not_allowed(endpoint: str) -> BadRequest:
    return BadRequest(
        f"Inference Component Name header is not allowed for endpoint {endpoint}, to which no inference components are "
        "deployed. Please remove Inference Component Name header.",
        field=FIELD,
    )


def not_found(component: str, endpoint: str) -> BadRequest:
    return BadRequest(f"Inference component {component} was not found for endpoint {endpoint}.", field=FIELD)


def no_capacity() -> BadRequest:
    return BadRequest(
        "Inference Component has no capacity to process this request. ApplicationAutoscaling may be in-progress (if "
        "configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API.",
        field=FIELD,
    )


def chosen(identity: Identity, header: str, named: object = None) -> str:
    """The model's own name, or that of one of its adapters. `header`: the component that the request's head names, if
    any; `named`: the model that its body names, if any.

    Raises BadRequest where both name different ones, or neither does and one must; NotReady for what is not loaded.
    """
    if not identity.component:
        if header:
            raise not_allowed(identity.endpoint)
        _check_known(named, identity)
        return identity.endpoint
    head = header or None
    body = None if named in (None, identity.endpoint) else named
    if head is None and body is None:
        raise missing()
    if head is not None and head not in identity.names:
        raise NotReady(f"Adapter {head} is not loaded on this copy of {identity.component} yet; try again.")
    _check_known(body, identity)
    if head not in (None, identity.component, body) and body is not None:
        raise BadRequest(f"model is {body}, but the request is for inference component {head}", field="model")
    # A base's own address is also where its adapters are reached by their names as models.
    return str(body if body is not None else head)


def _check_known(named: object, identity: Identity) -> None:
    if named is not None and named not in identity.names:
        raise BadRequest(f"model must be {' or '.join(identity.names)}, or absent", field="model")
