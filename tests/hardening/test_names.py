"""Names that become paths, rows, headers or variables: only names are names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.fuzz.targets import Targets, started
from server.control import environment
from server.control.log_files import PREFIX, LogFiles
from server.errors import BadRequest
from server.objects.local.store import LocalStore
from server.replicas.artifacts import Artifacts
from server.spec import EndpointSpec, VariantSpec

OUT = ["..", ".", "../x", "a/../b", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "a\n", "%2e%2e", "%2F", "a b", "-a",
       "a-",
       "\ud800", "\u202ea", "\uff0e\uff0e", "\u2024\u2024", "\u0430", "a\u0300", "\u0131", "\u212a", "a" * 64, "",
       "~", "$(id)",
       "${HOME}", "a;b", "`id`", "a'b", "*", "con:"]  # fmt: skip
"""Ways out of a folder, into a shell, or look-alikes of other names."""


@pytest.fixture(scope="module")
def door() -> Iterator[Targets]:
    with started() as targets:
        yield targets


def url(door: Targets) -> str:
    host, port = door.addresses["door"]
    return f"http://{host}:{port}"


def client(door: Targets, service: str) -> Any:
    """Sends what it is given: the door is to refuse, not the SDK."""
    quiet = Config(retries={"max_attempts": 0}, parameter_validation=False, read_timeout=30)
    return boto3.client(service, endpoint_url=url(door), region_name="us-east-1", aws_access_key_id="any",
                        aws_secret_access_key="any", config=quiet)  # fmt: skip


@pytest.mark.parametrize("name", OUT)
def test_endpoints_and_variants(name: str, door: Targets) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EndpointSpec(name=name, variants=(VariantSpec(model="m"),))
    with pytest.raises(ValueError, match="validation error"):
        VariantSpec(name=name, model="m")
    sagemaker = client(door, "sagemaker")
    if "\ud800" not in name:
        with pytest.raises(ClientError) as refused:
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        path = "".join(f"%{byte:02x}" for byte in name.encode())
        answer = httpx.put(f"{url(door)}/hearth/endpoints/{path}", json={"model": "hearth-python-lm"}, trust_env=False)
        assert answer.status_code in (400, 404, 405)
    sagemaker.close()


@pytest.mark.parametrize("name", ["%2e%2e", "a%2f%2e%2e%2fm", "%2e%2e%2f%2e%2e%2fetc", "m%00", "m%0a", "m%2f", "M"])
def test_invoked_addresses(name: str, door: Targets) -> None:
    for target in ("door", "text"):
        host, port = door.addresses[target]
        for path in (f"/endpoints/{name}/invocations", f"/endpoints/{name}/openai/v1/chat/completions"):
            answer = httpx.post(f"http://{host}:{port}{path}", json={"inputs": "a"}, trust_env=False)
            assert answer.status_code in (400, 404), path


@pytest.mark.parametrize("host", ["x/endpoints/m?", "x/endpoints/m/invocations?a=", "x#", "x?", "a@b", "[::1", ""])
def test_the_host_is_no_part_of_the_address(host: str, door: Targets) -> None:
    """Starlette's `request.url` begins with what the client calls its host: no route is chosen by it."""
    answers = [
        httpx.post(f"{url(door)}/endpoints/{name}/invocations", json={}, headers={"host": host}, trust_env=False)
        for name in ("first", "second")
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert "first" in answers[0].text
    assert "second" in answers[1].text


def test_logs_are_read_from_their_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "logs" / "endpoints" / "a").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x-y.log").write_text("key\n")
    (tmp_path / "logs" / "endpoints" / "a" / "link").symlink_to(tmp_path / "secret")
    files = LogFiles(tmp_path / "logs")
    assert files.streams(PREFIX + "a") == []
    for name in (*OUT, "../../secret", "a/link", "a/../../../secret"):
        assert files.streams(PREFIX + name) is None
        assert files.streams(name) is None


KEYS = ["../x", "a/../../x", "/x", "a//x", "./x", "a/\0x", "a/", "..", "a/..", "x" * 300, "a\nb", "\u202e",
        "\uff0e\uff0e/x"]


@pytest.mark.parametrize("key", KEYS)
def test_any_text_is_a_key_and_no_path(key: str, door: Targets) -> None:
    """What may become a file when it is fetched: `tests.objects.test_fetching`."""
    s3 = client(door, "s3")
    bucket = f"keys-{KEYS.index(key)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="m/" + key, Body=b"x")
    names = [row["Key"] for row in s3.list_objects_v2(Bucket=bucket, EncodingType="url")["Contents"]]
    assert len(names) == 1
    assert s3.get_object(Bucket=bucket, Key="m/" + key)["Body"].read() == b"x"
    s3.close()


@pytest.mark.parametrize(
    "address",
    ["s3://", "s3:///x", "s3://b", "s3://../x", "s3://b/../../etc/passwd", "s3://b\0/x", "s3://169.254.169.254/x",
     "s3://user@evil/x", "s3://evil:80/x"],
)  # fmt: skip
def test_addresses_of_model_data(address: str, tmp_path: Path) -> None:
    """Names of buckets in Hearth's own store: nothing in them is a host or a path."""
    artifacts = Artifacts(tmp_path / "cache", lambda: LocalStore(tmp_path / "store", "123456789012"))
    with pytest.raises(BadRequest):
        artifacts.folder(address)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def laughing(levels: int) -> str:
    """YAML in less than a kilobyte that means nine to the power of `levels` values."""
    lists = ["&a0 [x,x,x,x,x,x,x,x,x]"]
    lists += [f"&a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return f"[{','.join(lists)}]"


@pytest.mark.parametrize(
    "text", [laughing(16), "&a [*a]", "[" * 1000, "{a: " * 200, ".nan", ".inf", "1" * 5000, "!!python/name:os.system",
    "\0"]
)
def test_engine_options_in_variables(text: str) -> None:
    found = environment.engine_options({"SM_VLLM_X": text, "OPTION_Y": text})
    assert len(json.dumps(found, allow_nan=False)) < 3 * len(text) + 100
