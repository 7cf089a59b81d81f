"""Flags, environment and defaults: the contract's table, and that the documentation tells it."""

from __future__ import annotations

import dataclasses

import pytest

from emotion2vec_ui.settings import Settings, UsageError
from tests.conftest import ROOT


def test_flag_beats_environment_beats_default():
    assert Settings.load([], {}).server_port == 7860
    environ = {"GRADIO_SERVER_PORT": "9000"}
    assert Settings.load([], environ).server_port == 9000
    assert Settings.load(["--server-port", "9001"], environ).server_port == 9001


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--server-prot", "1"], {}, ["--server-prot", "--server-port"]),
        (["--server-port", "abc"], {}, ["--server-port", "abc"]),
        (["--server-port", "70000"], {}, ["70000", "65535"]),
        ([], {"GRADIO_SERVER_PORT": "x"}, ["GRADIO_SERVER_PORT", "x"]),
        (["--hub", "github"], {}, ["github", "ms", "hf"]),
        (["--device", "tpu"], {}, ["tpu", "cpu", "cuda"]),
        (["--cpu", "--device", "cuda"], {}, ["--cpu", "cuda"]),
        (["--auth", "nobody"], {}, ["USER:PASSWORD"]),
        (["--precision", "fp32", "--low-vram"], {}, ["--low-vram", "fp32"]),
        (["--server-name", "0.0.0.0"], {}, ["--auth", "--api-key", "--enable-insecure"]),
        ([], {"EMOTION2VEC_OFFLINE": "perhaps"}, ["EMOTION2VEC_OFFLINE", "perhaps", "true"]),
    ],
)
def test_what_cannot_be_used_is_named_with_what_could(argv, environ, words):
    with pytest.raises(UsageError) as caught:
        Settings.load(argv, environ)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1", "127.5.5.5"])
def test_loopback_needs_no_password(name):
    assert Settings.load(["--server-name", name], {}).server_name == name


@pytest.mark.parametrize(
    "guard", [["--auth", "a:b"], ["--api-key", "k"], ["--enable-insecure-extension-access"]]
)
def test_a_guarded_server_may_listen_to_all(guard):
    assert Settings.load(["--server-name", "0.0.0.0", *guard], {}).server_name == "0.0.0.0"


def test_cpu_is_device_cpu():
    assert Settings.load(["--cpu"], {}).device == "cpu"


@pytest.mark.parametrize("variable", ["EMOTION2VEC_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_by_either_variable(variable):
    assert Settings.load([], {variable: "1"}).offline


def test_keys_and_origins_are_lists():
    settings = Settings.load(
        ["--api-key", "one, two", "--allowed-origins", "https://A.example/, http://b:8080"], {}
    )
    assert settings.api_keys == ("one", "two")
    assert settings.origins == ("https://a.example", "http://b:8080")


@pytest.mark.parametrize("page", ["flags.md", "flags.zh-CN.md"])
@pytest.mark.parametrize("item", dataclasses.fields(Settings), ids=lambda item: item.name)
def test_every_flag_and_variable_is_documented(page, item):
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert f"| `--{item.name.replace('_', '-')}" in text
    for variable in item.metadata["env"]:
        assert f"`{variable}`" in text
