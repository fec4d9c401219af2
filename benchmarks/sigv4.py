"""What verifying one Signature Version 4 costs: `python -m benchmarks.sigv4` prints microseconds for each kind.

One process, one thread, the key already known, as on a replica that serves. Each figure is the best of several rounds:
what the work costs when the machine does nothing else.
"""

from __future__ import annotations

import base64
import timeit
from collections.abc import Callable

from botocore.auth import S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from server.identity import bearer
from server.identity.canonical import Sent
from server.identity.credential import Credential
from server.identity.object_gate import StrictGate
from server.identity.sigv4 import Verifier
from server.objects.request import Request

ROUNDS, CALLS = 7, 2000
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
ROOT = Credential(KEYS.access_key, KEYS.secret_key, "123456789012", "arn:aws:iam::123456789012:root")
BROWSED = {"user-agent": "Boto3/1.44", "accept-encoding": "identity", "content-type": "application/json",
           "x-amzn-sagemaker-target-variant": "AllTraffic", "amz-sdk-request": "attempt=1"}  # fmt: skip


def cases() -> dict[str, Callable[[], object]]:
    known = {ROOT.access_key: ROOT}
    verifier, gate = Verifier(known.get), StrictGate(known.get)
    body = b"x" * 1024
    called = _sent(SigV4Auth(KEYS, "sagemaker", "us-east-1"), "POST", "/endpoints/mine/invocations", body)
    presigned = _sent(SigV4QueryAuth(KEYS, "sagemaker", "us-east-1", 3600), "GET", "/endpoints/mine/invocations", b"")
    found = _sent(S3SigV4QueryAuth(KEYS, "s3", "us-east-1", 3600), "GET", "/bucket/folder/a%20key.bin", b"")
    asked = Request("GET", "bucket", "folder/a key.bin", {}, {}, "", found.path, found.query, found.headers)
    token = bearer_token()
    return {
        "header, 1 KiB body": lambda: verifier.verify(called, body),
        "presigned": lambda: verifier.verify(presigned, b""),
        "presigned, S3": lambda: gate.admit(asked),
        "bearer token": lambda: bearer.verify(token, verifier),
    }


def bearer_token() -> str:
    """As the SageMaker SDK makes it."""
    request = AWSRequest("POST", "https://sagemaker.amazonaws.com/", headers={"host": "sagemaker.amazonaws.com"},
                         params={"Action": bearer.ACTION})  # fmt: skip
    SigV4QueryAuth(KEYS, "sagemaker", "us-east-1", expires=bearer.LONGEST_S).add_auth(request)
    address = str(request.url).removeprefix("https://") + "&Version=1"
    return bearer.PREFIX + base64.b64encode(address.encode()).decode()


def _sent(auth: SigV4Auth, method: str, path: str, body: bytes) -> Sent:
    request = AWSRequest(method, f"https://127.0.0.1:8080{path}", headers=BROWSED, data=body)
    auth.add_auth(request)
    _, _, query = str(request.url).partition("?")
    headers = [(b"host", b"127.0.0.1:8080")]
    headers += [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    return Sent(method, path.encode(), query.encode(), headers)


def main() -> None:
    for name, call in cases().items():
        best = min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS
        print(f"{name:20} {best * 1e6:7.1f} us")


if __name__ == "__main__":
    main()
