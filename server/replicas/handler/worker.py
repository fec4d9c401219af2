"""The process that runs a customer's `inference.py`: one request after another over a socket to its replica.

It is started by this file's path and imports nothing of Hearth: `sys.path` belongs to the customer's code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import select
import socket
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_MESSAGE = 4096
"""Characters of an error that a client sees; the log has all of it."""
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")


def module_at(name: str, path: Path) -> ModuleType:
    """The module in the file `path`, registered as `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
wire = module_at("_hearth_wire", HERE / "wire.py")
defaults = module_at("_hearth_defaults", HERE / "defaults.py")


class Context:
    """What the contract's functions get as `context`: where the model is, and the request's headers."""

    def __init__(self, model_dir: str) -> None:
        gpu = None if os.environ.get("SM_NUM_GPUS", "0") == "0" else 0
        self.system_properties = {"model_dir": model_dir, "gpu_id": gpu}
        self.request_id = ""
        self._headers: dict[str, str] = {}
        self._content_type: str | None = None

    def begin(self, header: dict[str, Any]) -> None:
        """A new request; forgets the one before."""
        self.request_id = header["request_id"]
        self._headers = {name.lower(): value for name, value in header["headers"].items()}
        self._content_type = None

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self._headers.get(key.lower())

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return dict(self._headers)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self._content_type = value

    def get_response_content_type(self, idx: int) -> str | None:
        return self._content_type


class Handler:
    """A customer's functions around the model that `model_fn` made."""

    def __init__(self, module: ModuleType, model_dir: str, default_accept: str) -> None:
        self._functions = {name: getattr(module, name, getattr(defaults, name)) for name in FUNCTIONS}
        self._transform = getattr(module, "transform_fn", None)
        others = [name for name in FUNCTIONS[1:] if hasattr(module, name)]
        if self._transform is not None and others:
            raise ValueError(f"inference.py defines transform_fn, so it must not define {', '.join(others)}")
        self._default_accept = default_accept
        self._context = Context(model_dir)
        self._model = self._call(self._functions["model_fn"], model_dir)

    def answer(self, header: dict[str, Any], body: bytes) -> tuple[bytes | Iterator[Any], str]:
        """(body or its parts, content type). Raises what the customer's code raises."""
        self._context.begin(header)
        content_type = header["content_type"] or defaults.JSON
        accept = header["accept"]
        if accept in ("", "*/*"):
            accept = self._default_accept
        data: str | bytes = body
        if content_type.partition(";")[0].strip().lower() in defaults.TEXT_TYPES:
            data = _text(body)
        if self._transform is not None:
            result = self._call(self._transform, self._model, data, content_type, accept)
        else:
            read = self._call(self._functions["input_fn"], data, content_type)
            prediction = self._call(self._functions["predict_fn"], read, self._model)
            result = self._call(self._functions["output_fn"], prediction, accept)
        return self._encoded(result, accept)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`, with the context as last argument where it takes one more."""
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        if sum(kind in POSITIONAL for kind in kinds) == len(arguments) + 1:
            return function(*arguments, self._context)
        return function(*arguments)

    def _encoded(self, result: Any, accept: str) -> tuple[bytes | Iterator[Any], str]:
        content_type = self._context.get_response_content_type(0) or accept
        if isinstance(result, tuple) and len(result) == 2:
            result, content_type = result
        if not isinstance(result, Iterator):
            result = encoded(result)
        if not isinstance(content_type, str) or not content_type.isascii() or not content_type.isprintable():
            raise ValueError(f"{content_type!r} is no content type")
        return result, content_type


def encoded(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return json.dumps(value).encode()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise defaults.BadBody(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None


def failure(error: BaseException) -> dict[str, Any]:
    """`error` as a message's header: what the client sees. `status_code` is the toolkit's way to choose a status."""
    status = getattr(error, "status_code", 500)
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        status = 500
    plain = isinstance(error, defaults.BadBody | defaults.Unsupported)
    text = str(error) if plain else f"{type(error).__name__}: {error}"
    return {"status": status, "message": text[:MAX_MESSAGE]}


def load(start: dict[str, Any]) -> Handler:
    program = Path(start["program"])
    for folder in (str(program.parent), start["code_dir"]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return Handler(module_at(program.stem, program), start["model_dir"], start["default_accept"])


def main() -> int:
    number = int(sys.argv[1])
    os.set_inheritable(number, False)
    channel = socket.socket(fileno=number)
    start, _ = wire.receive(channel)
    try:
        handler = load(start)
    except Exception as error:
        traceback.print_exc()
        channel.sendall(wire.pack(failure(error)))
        return 1
    channel.sendall(wire.pack({"status": 200}))
    while True:
        try:
            header, body = wire.receive(channel)
        except (EOFError, ConnectionError):
            return 0
        if wire.ENOUGH in header:  # it crossed the end of the answer that it means
            continue
        messages = reply(handler, header, body, start["max_answer_bytes"])
        for message, more in messages:
            channel.sendall(message)
            if more and told(channel):
                messages.close()
                channel.sendall(wire.pack({"status": 200}))


def told(channel: socket.socket) -> bool:
    """Whether the replica has something to say, or is gone, in the middle of an answer: it wants no more."""
    return bool(select.select([channel], [], [], 0)[0])


def reply(
    handler: Handler, header: dict[str, Any], body: bytes, most: int
) -> Generator[tuple[bytes, bool], None, None]:
    """The answer as messages, whole or part by part, each with whether more follow."""
    try:
        answer, content_type = handler.answer(header, body)
        opening = {"status": 200, "content_type": content_type}
        if isinstance(answer, bytes):
            yield wire.pack(opening, _bounded(answer, len(answer), most)), False
            return
        sent = 0
        with contextlib.closing(_lines(answer)) as parts:
            for part in parts:
                sent += len(part)
                yield wire.pack({**opening, "more": True}, _bounded(part, sent, most)), True
        yield wire.pack(opening), False
    except Exception as error:
        traceback.print_exc()
        yield wire.pack(failure(error)), False


def _lines(parts: Iterator[Any]) -> Generator[bytes, None, None]:
    """Text and bytes as they are, any other value as a line of JSON. Ends with the customer's own generator."""
    try:
        for part in parts:
            data = encoded(part) if isinstance(part, str | bytes | bytearray | memoryview) else encoded(part) + b"\n"
            if data:
                yield data
    finally:
        if isinstance(parts, Generator):
            parts.close()


def _bounded(data: bytes, so_far: int, most: int) -> bytes:
    if so_far > most:
        raise ValueError(f"the answer has {so_far} bytes; at most {most} are allowed")
    return data


if __name__ == "__main__":
    sys.exit(main())
