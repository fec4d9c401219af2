"""Bedrock Runtime's wire: requests and answers by botocore's service model, signed by botocore, sent by httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from botocore import parsers, serialize
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer, ParserError
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.session import get_session

from server.external import wire
from server.external.options import ProviderOptions
from server.external.secrets import Secrets
from server.external.wire import ProviderFailed

MODEL: Any = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")
_PROTOCOL = MODEL.metadata["protocol"]
_STREAM_STATUS = {"throttlingException": 429, "validationException": 400, "serviceUnavailableException": 503}
"""Of exceptions that come as events; of the others 500."""


class Signer:
    """Credentials of one provider: the secret that it names, or those that botocore finds where Hearth runs.

    `ambient`: whether those may be used: they are the operator's, and no other account's to spend.
    """

    def __init__(self, options: ProviderOptions, secrets: Secrets, *, ambient: bool) -> None:
        self._options = options
        self._secrets = secrets
        self._ambient = ambient
        self._found: Any = None

    def sign(self, url: str, headers: Mapping[str, str], content: bytes) -> dict[str, str]:
        """The request's headers with its signature. Blocking. Raises ProviderFailed."""
        request = AWSRequest(method="POST", url=url, headers=dict(headers), data=content)
        SigV4Auth(self._credentials(), MODEL.signing_name, self._options.region).add_auth(request)
        return dict(request.headers.items())

    def _credentials(self) -> Any:
        if self._options.secret is not None:
            id, _, rest = self._secrets.value(self._options.secret).strip().partition(":")
            secret, _, token = rest.partition(":")
            if not id or not secret:
                raise ProviderFailed(f"secret {self._options.secret} is no access key, ID:SECRET", 403)
            return Credentials(id, secret, token or None)
        if not self._ambient:
            raise ProviderFailed("bedrock needs a secret with an access key, ID:SECRET", 403)
        try:
            self._found = self._found or get_session().get_credentials()
            if self._found is None:
                raise ProviderFailed("no AWS credentials were found where Hearth runs", 403)
            return self._found.get_frozen_credentials()
        except BotoCoreError as error:
            raise ProviderFailed(f"AWS credentials cannot be had ({type(error).__name__})", 403) from error


class BedrockWire:
    """Calls operations of one endpoint of Bedrock Runtime."""

    def __init__(self, options: ProviderOptions, client: httpx.AsyncClient, signer: Signer) -> None:
        self._address = options.address
        self._client = client
        self._signer = signer
        self._serializer = serialize.create_serializer(_PROTOCOL, include_validation=True)
        self._parser = parsers.create_parser(_PROTOCOL)

    @asynccontextmanager
    async def asked(self, operation: str, params: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """Raises ProviderFailed, and botocore's ParamValidationError for what the service model does not allow."""
        made = self._serializer.serialize_to_request(dict(params), MODEL.operation_model(operation))
        content = made["body"] if isinstance(made["body"], bytes) else str(made["body"]).encode()
        url = self._address + made["url_path"]
        signed = await asyncio.to_thread(self._signer.sign, url, made["headers"], content)
        async with wire.asked(self._client, url, signed, content) as response:
            yield response

    async def result(self, operation: str, response: httpx.Response) -> dict[str, Any]:
        """A whole answer as botocore gives it; a streaming body as bytes."""
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > wire.MOST_ANSWER_BYTES:
                raise ProviderFailed("the provider's answer is too long", 502)
        try:
            found: dict[str, Any] = self._parser.parse(
                {"status_code": response.status_code, "headers": dict(response.headers), "body": bytes(body)},
                MODEL.operation_model(operation).output_shape,
            )
        except parsers.ResponseParserError:
            raise ProviderFailed("the provider's answer cannot be read", 502) from None
        return found


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Types and contents of an event stream. Raises ProviderFailed, also for an exception that comes as an event."""
    buffer = EventStreamBuffer()
    async for part in response.aiter_bytes():
        buffer.add_data(part)
        try:
            for event in buffer:
                kind = event.headers.get(":exception-type") or event.headers.get(":error-code")
                if kind is not None:
                    message = wire.said(event.payload) or str(event.headers.get(":error-message", kind))
                    raise ProviderFailed(message, _STREAM_STATUS.get(str(kind), 500))
                yield str(event.headers.get(":event-type")), wire.parsed(event.payload)
        except ParserError as error:
            raise ProviderFailed("the provider's event stream cannot be read", 502) from error
