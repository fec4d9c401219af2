"""Accounts of one Hearth whose endpoints, buckets and keys bear the same names, each with its own answers."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from server.identity.accounts import Accounts
from server.identity.directory import Directory
from server.identity.keys import add_api_key, new_access_key
from server.settings import Settings
from server.store.store import Store, connect
from server.supervisor.ray_head import free_port
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.running.conftest import Hearth

NAME, BUCKET = "echo", "models"
CODE = """
import json

def model_fn(model_dir):
    return {answer!r}

def transform_fn(model, body, content_type, accept):
    print("asked for", model)
    return json.dumps(model), "application/json"
"""


@dataclass
class Account:
    """What a caller of one account has."""

    hearth: Hearth
    number: str
    keys: dict[str, str]
    api_key: str
    clients: list[Any] = field(default_factory=list)

    def client(self, service: str) -> Any:
        config = Config(retries={"max_attempts": 0}, read_timeout=120, s3={"addressing_style": "path"})
        made: Any = boto3.Session(**self.keys).client(
            service, endpoint_url=self.hearth.url, region_name="us-east-1", config=config
        )
        self.clients.append(made)
        return made

    def deploy(self, answer: str) -> None:
        """An endpoint that answers so; it sleeps until it is asked."""
        s3, sagemaker = self.client("s3"), self.client("sagemaker")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=_archive(answer))
        sagemaker.create_model(ModelName=NAME, PrimaryContainer={
            "Image": "pytorch-inference:2", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
        })  # fmt: skip
        sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[{
            "VariantName": "AllTraffic", "ModelName": NAME,
            "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
        }])  # fmt: skip
        sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)

    def post(self, path: str, body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.api_key}", "content-type": "application/json"}
        return httpx.post(self.hearth.url + path, json=body, headers=headers, timeout=180.0, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.api_key}"}
        return httpx.get(self.hearth.url + path, headers=headers, timeout=30.0, trust_env=False)


def _archive(answer: str) -> bytes:
    made = io.BytesIO()
    code = CODE.format(answer=answer).encode()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(code)
        tar.addfile(member, io.BytesIO(code))
    return made.getvalue()


def _keys(text: str) -> dict[str, str]:
    return dict(re.findall(r"(aws_\w+) = (\S+)", text))


def _account(hearth: Hearth, store: Store, name: str) -> Account:
    """As `hearth accounts create` and `hearth keys create` make them, which act on the state folder too."""
    settings = Settings(state_dir=hearth.state_dir)
    if name == "own":
        number, keys = settings.account, _keys((hearth.state_dir / "root-credentials").read_text())
    else:
        accounts = Accounts(store, settings.account)
        number = accounts.unused()
        key = new_access_key(number, SecretBox(Vault(store.engine, settings.master_keys)))
        accounts.create(number, name, key=key)
        keys = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret}
    with Directory(store.of(number)).change() as unit:
        return Account(hearth, number, keys, add_api_key(unit, number, None)[1])


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hearth]:
    """A Hearth of its own that asks who calls, without endpoints."""
    folder = tmp_path_factory.mktemp("tenants")
    config = folder / "hearth.yaml"
    config.write_text(json.dumps({"auth": "required"}))
    running = Hearth(folder, free_port("127.0.0.1"), config)
    running.start()
    try:
        running.wait("an answer", lambda: running.http.get("/ping").status_code == 200)
        running.wait("a token", lambda: (running.state_dir / "token").exists())
        token = (running.state_dir / "token").read_text().strip()
        running.http.headers["authorization"] = f"Bearer {token}"
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def accounts(asking: Hearth) -> Iterator[tuple[Account, Account, Account, Account]]:
    """The own one and two others, each with an endpoint of the same name, and one without."""
    settings = Settings(state_dir=asking.state_dir)
    store = Store(connect(settings.database), settings.account, settings.region)
    own, first, second, idle = (_account(asking, store, name) for name in ("own", "first", "second", "idle"))
    store.engine.dispose()
    made = own, first, second, idle
    for number, account in enumerate(made[:3]):
        account.deploy(f"answer {number}")
    yield made
    for account in made:
        for client in account.clients:
            client.close()


def test_each_account_gets_its_own_answers(accounts: tuple[Account, ...], asking: Hearth) -> None:
    """Asleep, through the door; awake, through the edge alone; by signature and by key."""
    for number, account in enumerate(accounts[:3]):
        reply = account.post(f"/endpoints/{NAME}/invocations", {"inputs": "x"})
        assert (reply.status_code, reply.text) == (200, f'"answer {number}"')
    for number, account in enumerate(accounts[:3]):
        runtime = account.client("sagemaker-runtime")
        for _ in range(3):
            answer = runtime.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=b"{}")
            assert answer["Body"].read() == f'"answer {number}"'.encode()
            assert account.post(f"/endpoints/{NAME}/invocations", {}).text == f'"answer {number}"'
    log = (asking.state_dir / "logs" / "edge.log").read_text().splitlines()
    lines = [json.loads(line) for line in log if line.startswith("{") and '"frontend":"public"' in line]
    straight = {line["backend"] for line in lines if line["server"].startswith("AllTraffic.")}
    assert straight == {f"ep.{NAME}", *(f"ep.{account.number}:{NAME}" for account in accounts[1:3])}


def test_another_account_s_endpoint_is_as_none(accounts: tuple[Account, ...], asking: Hearth) -> None:
    """Byte for byte but for its name, the request's id and the date: at the edge, and at the replica itself."""
    *owners, idle = accounts
    for path in ("/endpoints/{}/invocations", "/endpoints/{}/invocations-response-stream", "/v1/completions"):
        said = []
        for name in (NAME, "none"):
            reply = idle.post(path.format(name), {"inputs": "x", "model": name, "prompt": "x"})
            kept = {k: v for k, v in reply.headers.items() if k not in ("date", "x-request-id", "x-amzn-requestid")}
            lengths = int(kept.pop("content-length")) - len(name)
            said.append((reply.status_code, reply.text.replace(name, "NAME"), kept, lengths))
        assert said[0] == said[1]
        assert idle.number in said[0][1]
    wanted = idle.post(f"/endpoints/{NAME}/invocations", {"inputs": "x"})
    for owner in owners:
        (replica,) = owner.get("/hearth/state").json()["replicas"]
        direct = httpx.post(
            f"http://{replica['host']}:{replica['port']}/endpoints/{NAME}/invocations", json={"inputs": "x"},
            headers={"authorization": f"Bearer {idle.api_key}"}, trust_env=False,
        )  # fmt: skip
        assert (direct.status_code, direct.text) == (wanted.status_code, wanted.text)
        assert direct.headers["x-amzn-errortype"] == wanted.headers["x-amzn-errortype"]


def test_each_sees_its_own_alone(accounts: tuple[Account, ...], asking: Hearth) -> None:
    own, first, second, idle = accounts
    for account in (own, first, second):
        assert [each["id"] for each in account.get("/v1/models").json()["data"]] == [NAME]
        (replica,) = account.get("/hearth/state").json()["replicas"]
        shown = account.get("/metrics").text
        assert replica["replica_id"] in shown
        others = [each for each in (first, second) if each is not account]
        if account is not own:  # whose root runs this Hearth
            assert not [each for each in others if each.number in shown]
            assert shown.count('hearth_replicas{') == 1
        group = f"/aws/sagemaker/Endpoints/{NAME}"
        logs = account.client("logs").filter_log_events(logGroupName=group, filterPattern='"asked for"')["events"]
        assert {each["message"] for each in logs} == {f"asked for answer {accounts.index(account)}"}
    assert idle.get("/v1/models").json()["data"] == []
    assert idle.get("/hearth/state").json()["replicas"] == []
    assert "replica_id" not in idle.get("/metrics").text
    assert NAME not in idle.get("/metrics").text
    assert idle.client("logs").describe_log_groups()["logGroups"] == []
    status = asking.cli("status", "--config", str(asking.config))
    assert status.stdout.count(NAME) == 1, status.stdout + status.stderr


def test_what_one_deletes_the_others_keep(accounts: tuple[Account, ...], asking: Hearth) -> None:
    own, first, second, _ = accounts
    sagemaker = first.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=NAME)
    asking.wait("the first one's replicas gone", lambda: first.get("/hearth/state").json()["replicas"] == [])
    assert first.post(f"/endpoints/{NAME}/invocations", {}).status_code == 400
    for number, account in ((0, own), (2, second)):
        assert account.post(f"/endpoints/{NAME}/invocations", {}).text == f'"answer {number}"'
    assert asking.cli("accounts", "close", second.number).returncode == 0
    asking.wait("the closed one refused", lambda: second.post(f"/endpoints/{NAME}/invocations", {}).status_code == 403)
    assert own.post(f"/endpoints/{NAME}/invocations", {}).text == '"answer 0"'
