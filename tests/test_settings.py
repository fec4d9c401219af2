"""Settings come from file, environment and command line, and errors name file, line and field."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, load, read_secret

GOOD = """\
port: 9000
endpoints:
  writer:
    model: hearth-python-lm
    engine: {max-model-len: 512}
    scaling: {min_replicas: 0, max_replicas: 3}
  pair:
    variants:
      - {name: a, model: one, weight: 3}
      - {name: b, model: two, weight: 1}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "hearth.yaml"
    file.write_text(text)
    return file


def test_a_file_declares_endpoints_in_short_and_in_full(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD), environ={})
    writer, pair = settings.endpoints
    assert (settings.port, writer.name, writer.variants[0].name) == (9000, "writer", "AllTraffic")
    assert writer.variants[0].scaling.min_replicas == 0
    assert [(v.name, v.weight) for v in pair.variants] == [("a", 3), ("b", 1)]


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    assert load(file, environ={"HEARTH_PORT": "9001"}).port == 9001
    assert load(file, environ={"HEARTH_PORT": "9001"}, port=9002).port == 9002
    assert load(file, environ={}, port=None).port == 9000


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("port: 99999\n", 1, ["port", "65535"]),
        ("host: 127.0.0.1\nprot: 1\n", 2, ["prot"]),
        ("endpoints:\n  bad_name:\n    model: x\n", 2, ["endpoints.0.name"]),
        ("endpoints:\n  a:\n    model: x\n    scaling:\n      min_replicas: -1\n", 5, ["min_replicas"]),
        ("endpoints:\n  a:\n    model: x\n    scaling: {min_replicas: 3, max_replicas: 2}\n", 4, ["above max"]),
        ("endpoints:\n  a:\n    model: x\n    task: juggle\n", 4, ["task", "generate"]),
        ("endpoints:\n  a: {variants: [{name: v, model: x}, {name: v, model: y}]}\n", 2, ["differ"]),
        ("- 1\n", 1, ["mapping"]),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_field(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert str(caught.value).startswith(f"{file}:{line}: ")
    for word in words:
        assert word in str(caught.value)


def test_a_bad_environment_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="HEARTH_PORT: port"):
        load(None, environ={"HEARTH_PORT": "many"})


def test_broken_yaml_and_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not YAML"):
        load(write(tmp_path, "a: [1"), environ={})
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.yaml", environ={})


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    secret = read_secret(path)
    assert read_secret(path) == secret
    assert len(secret) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_is_asked() -> None:
    assert not Settings().authenticates
    assert Settings(auth="required").authenticates
    assert Settings(api_key="0123456789abcdef").authenticates
    with pytest.raises(SettingsError, match="api_key is asked for only with auth: required"):
        load(None, {"HEARTH_AUTH": "open", "HEARTH_API_KEY": "0123456789abcdef"})
    with pytest.raises(SettingsError, match="'open' or 'required'"):
        load(None, {"HEARTH_AUTH": "maybe"})


def test_an_api_key_never_shows_in_a_repr() -> None:
    assert "0123456789abcdef" not in repr(Settings(api_key="0123456789abcdef"))
