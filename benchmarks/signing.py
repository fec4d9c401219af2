"""AWS Signature Version 4 over one request, through botocore's own signer."""

from __future__ import annotations

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session


class Signer:
    """Signs with given keys or, without them, with what botocore finds (environment, profile, role)."""

    def __init__(self, region: str, access_key: str | None = None, secret_key: str | None = None) -> None:
        given = Credentials(access_key, secret_key) if access_key and secret_key else None
        credentials = given or Session().get_credentials()
        if credentials is None:
            raise ValueError("no AWS credentials found: give both keys or do not sign")
        self._auth = SigV4Auth(credentials, "sagemaker", region)

    def headers(self, url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        """`headers` with Authorization, X-Amz-Date and, where there is one, the session token added."""
        request = AWSRequest("POST", url, data=body, headers=headers)
        self._auth.add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}
