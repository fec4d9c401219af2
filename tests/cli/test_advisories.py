"""`make audit`: three endings, and none of them by accident."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from server.cli import advisories
from server.cli.advisories import main, pins

LOCK = "# head\nvllm-cpu==0.32.0\ntorch==2.13.0\nregex==2026.11.1 ; python_version > '3'\n"
CLEAN: list[dict[str, Any]] = [{"name": name, "version": "1", "vulns": []} for name in ("vllm", "torch", "regex")]
KNOWN = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["0.33.0"]}


def environment(folder: Path, dependencies: list[dict[str, Any]] | None) -> Path:
    """A stand-in for pip-audit that knows `dependencies`; None: it cannot reach the database."""
    program = folder / "venv" / "bin" / "pip-audit"
    program.parent.mkdir(parents=True)
    told = json.dumps(json.dumps({"dependencies": dependencies, "fixes": []}))
    reached = f"open(path, 'w').write({told}); sys.exit(1)"
    failed = "sys.stderr.write('Traceback\\nConnectionError: api.osv.dev cannot be resolved\\n'); sys.exit(1)"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "path = next(word for word in sys.argv if word.startswith('--output='))[9:]\n"
        f"{failed if dependencies is None else reached}\n"
    )
    program.chmod(0o755)
    (folder / "cpu.txt").write_text(LOCK)
    return folder / "venv"


@pytest.mark.parametrize(
    ("dependencies", "status", "said"),
    [
        (CLEAN, 0, "3 of 3 packages answered for, 0 advisories"),
        ([*CLEAN[1:], {"name": "vllm", "version": "0.32.0", "vulns": [KNOWN]}], 1, "PYSEC-1 CVE-1; fixed in 0.33.0"),
        ([*CLEAN[1:], {"name": "vllm", "skip_reason": "Dependency not found on PyPI"}], 2, "not found"),
        (CLEAN[1:], 2, "vllm: no answer"),
        (None, 2, "NOT AUDITED: the advisory database (osv) could not be asked: ConnectionError"),
    ],
)
def test_endings(
    dependencies: list[dict[str, Any]] | None,
    status: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    venv = environment(tmp_path, dependencies)
    assert main([str(tmp_path / "cpu.txt"), "--venv", str(venv)]) == status
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert ("NOT AUDITED" in shown.err) == (status == 2)


def test_an_auditor_that_cannot_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(advisories, "AUDITOR", str(tmp_path / "no-such-package.whl"))
    (tmp_path / "cpu.txt").write_text(LOCK)
    assert main([str(tmp_path / "cpu.txt"), "--venv", str(tmp_path / "venv")]) == 2
    assert "cannot be installed" in capsys.readouterr().err


def test_a_build_is_asked_about_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "cpu.txt").write_text(LOCK)
    assert pins(tmp_path / "cpu.txt") == ["vllm==0.32.0", "torch==2.13.0", "regex==2026.11.1"]
