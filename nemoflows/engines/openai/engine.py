"""Chat completions at any address, in the dialect of the server, through the official SDK.

Attempts, pauses and deadlines are `nemoflows.engines.http`'s; what a request is in a dialect's
terms is `completions`'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nemoflows.calls import Outcome, Reply, Request
from nemoflows.calls.wire import prefix_key
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.http import streams
from nemoflows.engines.http.body import fields
from nemoflows.engines.http.engine import RemoteEngine, announcing, forget_headers, refuse_variants
from nemoflows.engines.http.errors import told_of
from nemoflows.engines.http.learning import MOST_LEARNED, most_allowed, refused_field
from nemoflows.engines.http.transport import FREE_ANSWER_S
from nemoflows.engines.openai import completions
from nemoflows.engines.openai.dialects import LIMITS, RULES, Rules, without
from nemoflows.errors import BadModel
from nemoflows.models import Endpoint
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    import openai


class OpenAI(RemoteEngine):
    """Models behind one OpenAI-compatible address."""

    wire_version = "openai-2"

    def __init__(
        self, endpoint: Endpoint, *, name: str, deadline_s: float, concurrency: int = 64
    ) -> None:
        super().__init__(endpoint, name=name, deadline_s=deadline_s, concurrency=concurrency)
        self._rules = RULES[endpoint.dialect]
        self._contexts: dict[str, int] = {}
        self._learned: dict[str, Rules] = {}
        """What servers refused of a model's requests, by its name."""

    async def preflight(self, model: ModelRef) -> int | None:
        """List the endpoint's models, which is free; a list that cannot be had is passed over.

        Raises:
            BadModel: The key is missing or refused, the endpoint does not serve the model, or it
                passes over schemas.
            EndpointDown: Nothing answers.
        """
        refuse_variants(model)
        served = await self.served()
        found = [name for name in served if _is_plausibly(name, model.name)]
        if served and not found:
            raise BadModel(
                f"{self.transport.where()} does not serve {model.name!r}; it has "
                f"{', '.join(list(served)[:8])}."
            )
        if self._rules.refuses_bad_schemas:
            await self._probe_schemas(model)
        context_tokens = served[found[0]] if found else None
        if context_tokens is not None:
            self._contexts[model.name] = context_tokens
        return context_tokens

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply, again on transient refusals, within one deadline."""
        client = self.connect()  # importing the SDK takes seconds that are not the server's
        prefix = prefix_key(request) if self._rules.caches_prefixes else ""
        return await self.transport.send(
            lambda: self._ask(client, request), on_attempt, request, prefix
        )

    async def _ask(self, client: openai.AsyncOpenAI, request: Request) -> Outcome:
        """Ask once; what the server refuses of a request's form is learned, and left out."""
        name = request.model.name
        for left in reversed(range(MOST_LEARNED)):
            rules = self._learned.get(name, self._rules)
            body, notes = completions.to_body(request, rules)
            most = self._contexts.get(name, request.limit_tokens)
            if request.limit_tokens > most:  # which servers refuse, where thinking's room is added
                body[rules.limit] = min(body[rules.limit], most)
                notes.append(f"output limit: {most} tokens, the server's context")
            try:
                # What is not extra the SDK walks through, type by type: a third of a call's CPU.
                create = client.chat.completions.with_raw_response.create
                asked = create(model=name, messages=[], extra_body=body)
                return await self.came(asked, notes)
            except Exception as error:
                learned = _learned(rules, error, completions.sent_fields(body))
                if learned is None or not left:
                    raise
                self._learned[name] = learned
                self.transport.learned(name, error)
        raise AssertionError("the last of them returns or raises")

    def _joined(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        return streams.completion(events)

    def _read(self, body: dict[str, Any], came: Reply) -> Outcome:
        return completions.read_completion(body, came)

    def _make_client(self) -> openai.AsyncOpenAI:
        import openai

        transport = self.transport
        transport.connection_errors = (openai.APIConnectionError,)
        transport.sdk_errors = (openai.APIError,)
        client = openai.AsyncOpenAI(
            api_key=transport.key(),
            base_url=transport.endpoint.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=transport.deadline_s,
            http_client=announcing(
                openai.DefaultAioHttpClient(
                    trust_env=transport.trusts_proxies, follow_redirects=False
                )
            ),
        )
        if not transport.is_the_sdks_own():
            # When it is made, a client takes None for "read the variable"; not later.
            client.organization = client.project = None
            client.admin_api_key = client.webhook_secret = None
            forget_headers(client)
        return client

    def _context(self, model: Any) -> int | None:
        """Return the context as servers tell it.

        Source: vLLM 0.32 and SGLang's ModelCard (max_model_len), llama.cpp's server (meta.n_ctx),
        OpenRouter (context_length), Groq (context_window), Mistral (max_context_length).
        """
        more = model.model_extra or {}
        told = [more.get(name) for name in _CONTEXTS] + [fields(more.get("meta")).get("n_ctx")]
        return next((n for n in told if isinstance(n, int) and n > 0), None)

    async def _probe_schemas(self, model: ModelRef) -> None:
        """Ask for a schema that is none: a server that reads schemas refuses it and writes nothing.

        Raises:
            BadModel: The server answered, so it passes over schemas.
        """
        import openai

        arguments: dict[str, Any] = {
            "model": model.name,
            "messages": [{"role": "user", "content": "x"}],
            self._rules.limit: 1,
            "response_format": completions.response_format({"type": "wibble"}),
        }
        try:
            async with asyncio.timeout(FREE_ANSWER_S):
                done = await self.connect().chat.completions.create(**arguments)
        except (openai.APIError, TimeoutError, ValueError):
            return  # refused as it should be, or a fault, which says nothing about schemas
        if not getattr(done, "choices", None):
            return
        raise BadModel(
            f"{self.transport.where()} answered a request whose JSON schema is not valid, so it "
            "passes over schemas and replies would have any shape. Start it with structured "
            'outputs, or declare the endpoint with the dialect "compatible" to have replies '
            "checked alone."
        )


_CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length")


def _learned(rules: Rules, error: Exception, sent: dict[str, Any]) -> Rules | None:
    """Return the rules of a model whose server refused one of its fields; None where it did not."""
    field = refused_field(error, sent)
    if not field:
        return None
    asked = sent.get(field)
    others = [name for name in LIMITS if name != field and name not in rules.refused]
    most = None
    if field in LIMITS and isinstance(asked, int):
        renamed = any(name in told_of(error).words for name in others)
        most = None if renamed else most_allowed(error, asked)
    return without(rules, field, asked, most)


def _is_plausibly(served: str, name: str) -> bool:
    """Return whether a served id may be what `name` asks for: `x:latest`, `models/x`."""
    return served == name or served.startswith(f"{name}:") or served.endswith(f"/{name}")
