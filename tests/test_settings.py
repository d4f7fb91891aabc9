"""Settings: what is read, what is refused, and that values never reach an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from nemoflows import settings
from nemoflows.errors import BadInput, BadModel
from nemoflows.models import Endpoint
from nemoflows.models.hardware import Hardware
from nemoflows.types import ModelRef, Policy


def model(spelling: str) -> ModelRef:
    return ModelRef.model_validate(spelling)


def test_the_default_of_both_tiers_is_builtin() -> None:
    assert settings.load().default_policy() == Policy()
    assert str(Policy().efficient) == "builtin"


def test_tiers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_EFFICIENT", "vllm:nvidia/x@main+lora#fp8")
    policy = settings.load().default_policy()
    assert policy.efficient == ModelRef(
        endpoint="vllm", name="nvidia/x", revision="main", lora="lora", label="fp8"
    )


@pytest.mark.parametrize(
    "spelling",
    [
        "builtin",
        "openai:gpt-6-luna",
        "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
        "vllm:/mnt/weights/nano",
        "local:llama3.1:8b",
        "a:b@c+d#e",
        "a:b#e",
        "a:b+d",
    ],
)
def test_a_spelling_survives_a_round_trip(spelling: str) -> None:
    assert str(model(spelling)) == spelling
    assert ModelRef.model_validate_json(model(spelling).model_dump_json()) == model(spelling)


@pytest.mark.parametrize("spelling", ["", "gpt-6", "openai:", "Open AI:x", ":x", "a: b"])
def test_what_is_no_model_says_how_to_write_one(spelling: str) -> None:
    with pytest.raises(ValueError, match="endpoint:name"):
        model(spelling)


def test_an_sdk_address_with_a_secret_in_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:canary@localhost:5/v1")
    with pytest.raises(BadModel, match="OPENAI_BASE_URL") as caught:
        settings.load().endpoint(model("openai:x"))
    assert "canary" not in caught.value.message


def test_an_unknown_endpoint_names_the_known_ones() -> None:
    with pytest.raises(BadModel, match=r"'nowhere'.*builtin, .*openai.*NEMOFLOWS_ENDPOINTS"):
        settings.load().endpoint(model("nowhere:x"))


def test_offline_refuses_every_address_but_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    far, near = "http://10.0.0.1/v1", "http://127.0.0.1:1/v1"
    declared = {
        name: {"dialect": "openai", "base_url": url} for name, url in (("far", far), ("near", near))
    }
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", json.dumps(declared))
    loaded = settings.load()
    assert loaded.endpoint(model("near:x")).base_url == near
    for spelling in ("far:x", "openai:x", "anthropic:x"):
        with pytest.raises(BadModel, match="NEMOFLOWS_OFFLINE"):
            loaded.endpoint(model(spelling))


def test_an_sdk_address_is_honoured_for_its_built_in_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:5/v1")
    assert settings.load().endpoint(model("openai:x")).base_url == "http://localhost:5/v1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEMOFLOWS_ENDPOINTS", '{"x": {"dialect": "openai", "key": "canary"}}'),
        ("NEMOFLOWS_ENDPOINTS", "{canary"),
        ("NEMOFLOWS_CONCURRENCY", "canary"),
        ("NEMOFLOWS_EFFICIENT", "canary x"),
        ("NEMOFLOWS_FRONTIER", "sk-canary"),
        ("NEMOFLOWS_ENDPOINTS", '{"x": {"dialect": "openai", "base_url": "http://u:canary@h"}}'),
        ("NEMOFLOWS_ENDPOINTS", '{"x": {"dialect": "openai", "base_url": "http://h/?k=canary"}}'),
        ("NEMOFLOWS_ENDPOINTS", '{"x": {"dialect": "openai", "key_env": "sk-canary"}}'),
        ("NEMOFLOWS_ENDPOINTS", '{"x": {"dialect": "openai", "base_url": "http://[canary"}}'),
        ("NEMOFLOWS_JOURNAL", "s3://user:canary@bucket/journal"),
        ("NEMOFLOWS_JOURNAL", "s3://bucket/journal?token=canary"),
        ("NEMOFLOWS_JOURNAL", "http://u:canary@h\u2100/x"),
        ("NEMOFLOWS_HOME", "simplecache::s3://user:canary@bucket/home"),
        ("NEMOFLOWS_HARDWARE", '{"weights": "s3://user:canary@bucket/weights"}'),
        ("NEMOFLOWS_HARDWARE", '{"engine_arguments": {"hf_token": "canary"}}'),
        ("NEMOFLOWS_HARDWARE", "{canary"),
    ],
)
def test_a_bad_setting_is_named_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="NEMOFLOWS_") as caught:
        settings.load()
    assert name.removeprefix("NEMOFLOWS_").lower() in caught.value.message.lower()
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "value", ['{"efficient": "sk-canary"}', "frontier: sk-canary x", "sk-canary", "{sk-canary"]
)
def test_a_bad_policy_of_the_environment_is_named_without_its_value(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_POLICY", value)
    with pytest.raises(BadInput, match="The policy ") as caught:
        settings.load().default_policy()
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "root", ["", "off", "/data/what?/a@b", "s3://bucket/a@b", "simplecache::s3://b/x", "memory://x"]
)
def test_a_root_without_a_secret_is_taken(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_JOURNAL", root)
    assert settings.load().journal == root


@pytest.mark.parametrize("name", ["sk-canary", "canary key", "1canary", "canary\n", "canary\u00e9"])
def test_a_key_where_its_variables_name_belongs_is_refused_unquoted(name: str) -> None:
    with pytest.raises(ValueError, match="key_env") as caught:
        Endpoint(dialect="openai", key_env=name)
    assert "canary" not in str(caught.value)


def test_home_is_found_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    assert settings.home().is_absolute()
    monkeypatch.delenv("HOME")
    assert settings.home() != Path()


def test_a_command_has_one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings.command_id()
    assert settings.command_id() == first
    monkeypatch.setattr("sys.argv", ["pyflyte", "run", "other"])
    assert settings.command_id() != first


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:80", True),
        ("http://localhost/x", True),
        ("http://[::1]:3/", True),
        ("http://127.evil.example/", False),
        ("http://example.org/?127.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(url: str, *, expected: bool) -> None:
    assert settings.is_loopback(url) is expected


@pytest.mark.parametrize("name", settings.Settings.model_fields)
def test_a_variable_that_is_set_but_empty_is_as_one_that_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{settings.PREFIX}{name.upper()}"
    monkeypatch.delenv(variable, raising=False)
    usual = settings.load()
    monkeypatch.setenv(variable, "")
    assert settings.load() == usual


@pytest.mark.parametrize("name", ["API_KEY", "aws_secret_access_key"])
def test_a_key_anywhere_in_engine_arguments_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="may hold a key"):
        Hardware.model_validate({"engine_arguments": {"loader": [{name: "x"}]}})
