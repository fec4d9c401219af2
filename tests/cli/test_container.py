"""Settings from a SageMaker container's environment."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.container import settings_from_container
from server.control.environment import TASKS, engine_options, gpus
from server.settings import Settings, SettingsError
from server.spec import VariantSpec


def made(tmp_path: Path, **environ: str) -> Settings:
    return settings_from_container(environ, tmp_path / "model")


def variant(settings: Settings) -> VariantSpec:
    (endpoint,) = settings.endpoints
    (found,) = endpoint.variants
    return found


def test_the_container_contract(tmp_path: Path) -> None:
    settings = made(tmp_path, HF_MODEL_ID="org/name")
    assert (settings.host, settings.port, settings.allow_anonymous) == ("0.0.0.0", 8080, True)
    assert settings.default_endpoint == settings.endpoints[0].name == "model"
    assert variant(settings).model == "org/name"


def test_the_platform_moves_the_port_and_names_the_endpoint(tmp_path: Path) -> None:
    settings = made(tmp_path, HF_MODEL_ID="a/b", SAGEMAKER_BIND_TO_PORT="8443", SAGEMAKER_ENDPOINT_NAME="mine")
    assert (settings.port, settings.default_endpoint) == (8443, "mine")


def test_artifacts_go_before_a_hub_id_and_an_explicit_model_before_both(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert variant(made(tmp_path, HF_MODEL_ID="a/b")).model == "a/b"
    (folder / "config.json").write_text("{}")
    assert variant(made(tmp_path, HF_MODEL_ID="a/b")).model == str(folder)
    assert variant(made(tmp_path, SM_VLLM_MODEL="c/d")).model == "c/d"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "No model"),
        ({"HF_MODEL_ID": "s3://bucket/key"}, "S3"),
        ({"HF_MODEL_ID": "a/b", "HF_TASK": "dance"}, "HF_TASK"),
        ({"HF_MODEL_ID": "a/b", "SM_NUM_GPUS": "all"}, "SM_NUM_GPUS"),
        ({"HF_MODEL_ID": "a/b", "SAGEMAKER_BIND_TO_PORT": "http"}, "port"),
        ({"HF_MODEL_ID": "a/b", "SAGEMAKER_ENDPOINT_NAME": "not a name"}, "name"),
        ({"HF_MODEL_ID": "a/b", "HEARTH_LOG_LEVEL": "loud"}, "HEARTH_LOG_LEVEL"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        made(tmp_path, **environ)


def test_engine_options_keep_their_types() -> None:
    environ = {
        "SM_VLLM_MAX_MODEL_LEN": "4096",
        "SM_VLLM_ENFORCE_EAGER": "true",
        "SM_VLLM_ENABLE_PREFIX_CACHING": "false",
        "SM_VLLM_ENABLE_AUTO_TOOL_CHOICE": "",
        "SM_VLLM_GPU_MEMORY_UTILIZATION": "0.8",
        "SM_VLLM_HF_OVERRIDES": '{"a": 1}',
        "SM_VLLM_DTYPE": "auto",
        "SM_VLLM_MODEL": "a/b",
    }
    assert engine_options(environ) == {
        "max-model-len": 4096,
        "enforce-eager": True,
        "enable-auto-tool-choice": True,
        "gpu-memory-utilization": 0.8,
        "hf-overrides": {"a": 1},
        "dtype": "auto",
    }


def test_lmi_options_by_their_own_names() -> None:
    environ = {
        "OPTION_TENSOR_PARALLEL_DEGREE": "max",
        "OPTION_MAX_ROLLING_BATCH_SIZE": "64",
        "OPTION_DTYPE": "fp16",
        "OPTION_ROLLING_BATCH": "vllm",
        "OPTION_MODEL_ID": "a/b",
        "SM_NUM_GPUS": "4",
    }
    assert engine_options(environ) == {"tensor-parallel-size": 4, "max-num-seqs": 64, "dtype": "float16"}


def test_vllms_names_go_before_lmis() -> None:
    assert engine_options({"OPTION_DTYPE": "fp16", "SM_VLLM_DTYPE": "bfloat16"}) == {"dtype": "bfloat16"}


def test_cards() -> None:
    assert gpus({}, {}) == 0
    assert gpus({"NVIDIA_VISIBLE_DEVICES": "all"}, {}) == 1
    assert gpus({"NVIDIA_VISIBLE_DEVICES": "all"}, {"tensor-parallel-size": 2}) == 2
    assert gpus({"NVIDIA_VISIBLE_DEVICES": "void", "SM_NUM_GPUS": "3"}, {}) == 3


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_one_that_hearth_serves(tmp_path: Path, name: str) -> None:
    assert variant(made(tmp_path, HF_MODEL_ID="a/b", HF_TASK=name)).task == TASKS[name]


@given(st.dictionaries(st.from_regex(r"(SM_VLLM|OPTION)_[A-Z_]{1,12}", fullmatch=True), st.text(max_size=30)))
def test_any_environment_gives_options_or_an_error(environ: dict[str, str]) -> None:
    for name, value in engine_options(environ).items():
        assert name == name.lower()
        assert value is not False
