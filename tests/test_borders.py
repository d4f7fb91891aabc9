"""What may leave for a remote endpoint, and what may come in: over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from nemoflows import settings
from nemoflows.calls import Attempt, Outcome, Reply, Unanswered, Unusable
from nemoflows.engines.anthropic.messages import read_message
from nemoflows.engines.http.engine import RemoteEngine
from nemoflows.engines.http.errors import too_long_numbers
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadModel, printable
from nemoflows.types import ModelRef
from tests.loopback import ModelServer
from tests.support import request

HEADERS = "X-Proxy: canary-header\nAuthorization: Bearer canary\nauthorization: Bearer canary"
SDK_VARIABLES = {
    "OPENAI_ORG_ID": "canary-org",
    "OPENAI_PROJECT_ID": "canary-project",
    "OPENAI_ADMIN_KEY": "canary-admin",
    "OPENAI_WEBHOOK_SECRET": "canary-webhook",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/canary",
    "OPENAI_CUSTOM_HEADERS": HEADERS,
    "ANTHROPIC_CUSTOM_HEADERS": HEADERS,
    "ANTHROPIC_AUTH_TOKEN": "canary-token",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/canary",
    "ANTHROPIC_PROFILE": "canary-profile",
    "ANTHROPIC_WORKSPACE_ID": "canary-workspace",
    "ANTHROPIC_WEBHOOK_SIGNING_KEY": "canary-webhook",
    "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content",
}
"""What the SDKs read of the environment. Source: openai 3.54 and anthropic 2.12, their clients."""
KEYS = {"OPENAI_API_KEY": "k1", "ANTHROPIC_API_KEY": "k2", "DEEPSEEK_API_KEY": "k3"}


class Recorder:
    """A server that keeps what it is sent and refuses it, or sends the client elsewhere."""

    def __init__(self, host: str = "127.0.0.1", *, elsewhere: str = "", status: int = 400) -> None:
        self.headers: list[str] = []
        self.bodies: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                return

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                outer.headers.append(str(self.headers))
                outer.bodies.append(self.rfile.read(length).decode())
                self.send_response(status)
                if elsewhere:
                    self.send_header("location", f"{elsewhere}{self.path}")
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as running:
        yield running


def ask(spelling: str) -> tuple[Outcome, list[Attempt]]:
    """Ask a model as a run would, by the environment's settings."""
    attempts: list[Attempt] = []

    async def work() -> Outcome:
        engine = Engines(settings.load()).of(ModelRef.model_validate(spelling))
        try:
            asked = request("secret prompt", model=spelling)
            return await engine.complete(asked, attempts.append)
        finally:
            await engine.aclose()

    return asyncio.run(work()), attempts


def declare(name: str, dialect: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {name: {"dialect": dialect, "base_url": url, "key_env": "OPENAI_API_KEY"}}
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", json.dumps(declared))


@pytest.fixture
def _sdk_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SDK_VARIABLES | KEYS).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_sdk_variables")
@pytest.mark.parametrize("name", ["deepseek", "nim", "sglang", "vllm-server"])
def test_the_sdks_variables_stay_here_whatever_built_in_endpoint_is_asked(
    name: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nemoflows import models

    at_home = models.BUILT_IN[name].model_copy(
        update={"base_url": recorder.url, "key_env": "DEEPSEEK_API_KEY"}
    )
    monkeypatch.setitem(models.BUILT_IN, name, at_home)
    ask(f"{name}:x")
    assert len(recorder.headers) == 1
    assert "canary" not in recorder.headers[0]


@pytest.mark.usefixtures("_sdk_variables")
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_the_sdks_variables_stay_here_when_their_endpoint_is_declared_anew(
    name: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(name, name, recorder.url, monkeypatch)
    ask(f"{name}:x")
    assert len(recorder.headers) == 1
    assert "canary" not in recorder.headers[0]


@pytest.mark.usefixtures("_sdk_variables")
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_the_sdks_variables_travel_where_the_sdk_itself_would_ask(
    name: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{name.upper()}_BASE_URL", recorder.url)
    ask(f"{name}:x")
    assert "canary-header" in recorder.headers[0]


@pytest.mark.usefixtures("_sdk_variables")
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "anthropic-batch"])
def test_a_declared_endpoints_client_holds_nothing_of_the_sdks_variables(
    dialect: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare("mine", dialect, recorder.url, monkeypatch)
    before = dict(os.environ)
    engine = Engines(settings.load()).of(ModelRef.model_validate("mine:x"))
    assert isinstance(engine, RemoteEngine)

    async def work() -> Any:
        await engine.preflight(ModelRef.model_validate("mine:x"))
        return engine._client

    client = asyncio.run(work())
    # openai's client keeps for copies of itself which authorisations came from its variable.
    held = {name: v for name, v in vars(client).items() if name != "_ambient_authorizations"}
    assert "canary" not in repr(held) + repr(client.default_headers)
    traces = getattr(client, "open_telemetry", {"traces": {}})["traces"]
    assert traces.get("content_mode") != "content"
    assert recorder.headers
    assert all("canary" not in sent for sent in recorder.headers)
    assert all(sent.lower().count("authorization: bearer k1") == 1 for sent in recorder.headers)
    assert dict(os.environ) == before


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("dialect", ["compatible", "anthropic"])
def test_a_redirect_is_not_followed_but_a_final_outcome(
    dialect: str, status: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_OFFLINE", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    with Recorder("127.0.0.2", elsewhere=recorder.url, status=status) as moved:
        declare("mine", dialect, moved.url, monkeypatch)
        outcome, attempts = ask("mine:x")
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient, len(attempts)) == ("rejected", False, 1)
    assert "redirects, which is not followed" in outcome.detail
    assert recorder.url not in outcome.detail
    assert "secret prompt" in moved.bodies[0]
    assert not recorder.headers


@pytest.mark.parametrize("dialect", ["compatible", "anthropic"])
def test_a_preflight_follows_no_redirect(
    dialect: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    with Recorder("127.0.0.2", elsewhere=recorder.url, status=307) as moved:
        declare("mine", dialect, moved.url, monkeypatch)

        async def work() -> None:
            model = ModelRef.model_validate("mine:x")
            engine = Engines(settings.load()).of(model)
            await engine.preflight(model)
            await engine.aclose()

        asyncio.run(work())
    assert moved.headers
    assert not recorder.headers


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e" + "A" * 5000


def is_harmless(text: str) -> bool:
    return text == printable(text) and "\n" not in text and len(text) < 600


@pytest.mark.parametrize("dialect", ["compatible", "anthropic"])
def test_an_errors_code_obeys_no_terminal(
    dialect: str, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    url = server.url if dialect == "compatible" else server.url.removesuffix("/v1")
    declare("mine", dialect, url, monkeypatch)
    server.faults.append(f"400:{HOSTILE}")
    outcome, _ = ask("mine:tiny")
    assert isinstance(outcome, Unanswered)
    assert "owned" in outcome.detail or dialect == "anthropic"
    assert is_harmless(outcome.detail)


def test_a_listed_models_name_obeys_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    with ModelServer(models=(HOSTILE,)) as server:
        declare("mine", "compatible", server.url, monkeypatch)

        async def work() -> None:
            model = ModelRef.model_validate("mine:tiny")
            engine = Engines(settings.load()).of(model)
            try:
                await engine.preflight(model)
            finally:
                await engine.aclose()

        with pytest.raises(BadModel, match=r"it has .*owned") as caught:
            asyncio.run(work())
    assert is_harmless(caught.value.message)


def test_a_refusals_words_obey_no_terminal(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    declare("mine", "compatible", server.url, monkeypatch)
    server.extra_message = {"refusal": HOSTILE}
    outcome, _ = ask("mine:tiny")
    assert isinstance(outcome, Unusable)
    assert is_harmless(outcome.detail)


@pytest.mark.parametrize("stop", ["refusal", "max_tokens", "pause_turn"])
def test_claudes_words_obey_no_terminal(stop: str) -> None:
    body: dict[str, Any] = {
        "content": [], "model": HOSTILE, "stop_reason": stop, "usage": None,
        "stop_details": {"explanation": HOSTILE},
    }  # fmt: skip
    outcome = read_message(body, Reply())
    assert isinstance(outcome, Unusable)
    assert is_harmless(outcome.detail)


def test_numbers_of_too_long_a_prompt_are_few_and_short() -> None:
    error = Exception()
    told = " ".join(str(n) * 500 for n in range(100, 120))
    error.status_code, error.message = 400, f"prompt is too long: {told}"  # type: ignore[attr-defined]
    assert is_harmless(too_long_numbers(error))


KEY = "sk-live/4f0c8a77"
SPELLINGS = [KEY, KEY.replace("/", "\\/"), KEY.replace("-", "\\u002d"), KEY.replace("k", "\\u006B")]


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_body_is_kept_without_the_endpoint_s_own_key(
    spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However JSON spells it: in the text, the model's name, the number of the request."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    declare("mine", "compatible", "http://127.0.0.1:1", monkeypatch)
    engine = Engines(settings.load()).of(ModelRef.model_validate("mine:tiny"))
    assert isinstance(engine, RemoteEngine)
    raw = f'{{"model": "{spelled}", "text": "it is {spelled}", "more": "\\u00e9"}}'
    kept = engine.kept(raw, [], KEY)
    assert KEY not in json.dumps(json.loads(kept.raw)) + kept.request_id
    assert json.loads(kept.raw) == {"model": "***", "text": "it is ***", "more": "é"}


def test_an_errors_code_tells_no_key(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the part of it that a short quote would leave."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    declare("mine", "compatible", server.url, monkeypatch)
    server.faults.append(f"400:{'x' * 190}{KEY}")
    outcome, _ = ask("mine:tiny")
    assert isinstance(outcome, Unanswered)
    assert "x***" in outcome.detail
    assert KEY[:6] not in outcome.detail
