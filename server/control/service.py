"""One AWS service that Hearth answers for: its operations, shapes and errors, as botocore's model has them,
and the functions that stand behind those that are built.

An operation takes the caller's context and a request that passed the shape check. It validates references,
writes intent in one transaction and returns what the answer is projected from. It never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.control.operations import Answer, Context, Operation, Request

_LOADER = Loader()


class Service:
    """`name` is botocore's name of the service, such as `cloudwatch`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model: Any = ServiceModel(_LOADER.load_service_model(name, "service-2"), name)
        facts = self.model.metadata
        self.signing_name: str = facts.get("signingName") or facts["endpointPrefix"]
        """In the scope of a signature."""
        self.target_prefix: str = facts.get("targetPrefix", "")
        self.version: str = facts["apiVersion"]
        self.namespace: str = facts.get("xmlNamespace", "")
        self.json_version: str = facts.get("jsonVersion", "1.1")
        self.query_compatible = "awsQueryCompatible" in facts
        """Errors also travel under the codes of the query protocol that the service once had."""
        self.operations: frozenset[str] = frozenset(self.model.operation_names)
        self._built: dict[str, Operation] = {}
        self._by_letters = {name.lower(): name for name in self.operations}
        self._errors: dict[str, Mapping[str, Any]] = {}

    @property
    def built(self) -> Mapping[str, Operation]:
        """Every operation that is built, by name."""
        return self._built

    def describe(self, name: str) -> Any:
        """An operation's model; `name` is one of `operations`."""
        return self.model.operation_model(name)

    def input(self, name: str) -> Any:
        return self.describe(name).input_shape

    def output(self, name: str) -> Any:
        return self.describe(name).output_shape

    def errors(self, name: str) -> Mapping[str, Any]:
        """The shapes of the errors that the model lists for an operation, by name; none for an unknown one."""
        if name not in self._errors and name in self.operations:
            self._errors[name] = {str(shape.name): shape for shape in self.describe(name).error_shapes}
        return self._errors.get(name, {})

    def members(self, name: str) -> frozenset[str]:
        """Names of an operation's input members."""
        shape = self.input(name)
        return frozenset(shape.members) if shape is not None else frozenset()

    def register(self, name: str, function: Operation) -> None:
        """Raises LookupError for a name that is no operation of this service, or that is taken."""
        if name not in self.operations:
            raise LookupError(f"{self.name} has no operation {name}")
        if name in self._built:
            raise LookupError(f"{name} of {self.name} is registered twice")
        self._built[name] = function

    def operation(self, function: Callable[[Context, Request], Answer]) -> Operation:
        """Registers ``def create_endpoint(context, request)`` as CreateEndpoint, ``create_saml_provider`` as
        CreateSAMLProvider."""
        letters = function.__name__.replace("_", "")
        self.register(self._by_letters.get(letters, letters), function)
        return function
