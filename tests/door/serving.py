"""A running door in the mode `required`, and clients with keys of its accounts."""

from __future__ import annotations

import asyncio
import configparser
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from server.door.app import application
from server.identity.first_key import first_key
from server.launch import Launch
from server.settings import Settings, load
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

ACCOUNT = "123456789012"
SESSION = boto3.Session()
API_KEY = "the-key-of-the-settings"


@dataclass
class Keys:
    """Credentials as boto3 takes them."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str | None = None

    @classmethod
    def of(cls, answer: Any) -> Keys:
        return cls(answer["AccessKeyId"], answer["SecretAccessKey"], answer.get("SessionToken"))


@dataclass
class Asking:
    """A running door in the mode `required`."""

    url: str
    settings: Settings
    store: Store
    root: Keys
    clients: list[Any] = field(default_factory=list)

    def client(self, service: str, keys: Keys | None = None) -> Any:
        given = keys or self.root
        made = SESSION.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=given.aws_access_key_id,
            aws_secret_access_key=given.aws_secret_access_key, aws_session_token=given.aws_session_token,
            config=Config(
                signature_version="s3v4" if service == "s3" else "v4", retries={"max_attempts": 0}, read_timeout=20,
                s3={"addressing_style": "path"},
            ),
        )  # fmt: skip
        self.clients.append(made)
        return made

    def user(self, name: str, *statements: Any) -> Keys:
        """A new user with one inline policy."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if statements:
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy(*statements))
        return Keys.of(iam.create_access_key(UserName=name)["AccessKey"])

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.get(self.url + path, headers=headers, trust_env=False)


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


def deny(*actions: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {**allow(*actions, resource=resource, **more), "Effect": "Deny"}


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


@contextmanager
def started(folder: Path) -> Iterator[Asking]:
    settings = load(None, {}, state_dir=folder, auth="required", api_key=API_KEY)
    engine = connect(settings.database)
    migrate(engine)
    store = Store(engine, settings.account, settings.region)
    file = first_key(store, SecretBox(Vault(engine, settings.master_keys)), settings.state_dir)
    assert file is not None
    read = configparser.ConfigParser()
    read.read(file)
    app = application(Launch(settings, 1, "none"), store)
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP by name
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    asking = Asking(f"http://127.0.0.1:{bound.getsockname()[1]}", settings, store, Keys(**dict(read["default"])))
    yield asking
    for client in asking.clients:
        client.close()
    server.should_exit = True
    thread.join(10)
    engine.dispose()
