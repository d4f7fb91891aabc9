"""Chat completions at any address, in the dialect of the server, through the official SDK.

Attempts, pauses and deadlines are `nemoflows.engines.line`'s; what a dialect calls things, and what
it would pass over in silence, is in `nemoflows.engines.dialects`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nemoflows.calls import (
    Answered,
    Message,
    Outcome,
    Reply,
    Request,
    Tool,
    ToolCall,
    Unusable,
    Usage,
)
from nemoflows.calls.wire import prefix_key, render, schema_words
from nemoflows.engines.dialects import RULES, Rules, Wish, sampling
from nemoflows.engines.line import Line, MalformedReplyError, foreign, refuse_variants
from nemoflows.engines.protocol import OnAttempt, Vectors, cannot_embed, cannot_rerank
from nemoflows.errors import BadModel
from nemoflows.models import Dialect, Endpoint
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    import openai

PREFLIGHT_S = 10.0
"""Time that a server has to list its models."""


class OpenAI:
    """Models behind one OpenAI-compatible address."""

    paid = True
    adapter = "openai-1"

    def __init__(
        self, endpoint: Endpoint, *, name: str, deadline_s: float, concurrency: int = 64
    ) -> None:
        self.line = Line(endpoint, name, deadline_s, most=concurrency)
        self._rules = RULES[endpoint.dialect]
        self._contexts: dict[str, int] = {}
        self._client: openai.AsyncOpenAI | None = None

    def identity(self, model: ModelRef) -> str:
        """Return the spelling: a served name is all that a client knows."""
        return str(model)

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
                f"{self.line.where()} does not serve {model.name!r}; it has "
                f"{', '.join(list(served)[:8])}."
            )
        if self._rules.refuses_bad_schemas:
            await self._probe_schemas(model)
        context_tokens = served[found[0]] if found else None
        if context_tokens is not None:
            self._contexts[model.name] = context_tokens
        return context_tokens

    async def served(self) -> dict[str, int | None]:
        """Return the models that the endpoint lists, each with its context in tokens if told.

        Raises:
            BadModel: The key is missing or refused.
            EndpointDown: Nothing answers.
        """
        import openai

        client = self._connect()
        try:
            with self.line.preflighting():
                async with asyncio.timeout(PREFLIGHT_S):
                    models = client.models.list()
                    return {foreign(found.id): _context(found) async for found in models}
        except (openai.APIError, ValueError, TypeError, AttributeError):
            return {}  # no list of models: some servers have none, so the first call will tell

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply, again on transient refusals, within one deadline."""
        client = self._connect()  # importing the SDK takes seconds that are not the server's
        prefix = prefix_key(request) if self._rules.caches_prefixes else ""
        arguments, notes = _arguments(request, self._rules, self.line.endpoint.dialect)
        most = self._contexts.get(request.model.name, request.limit_tokens)
        if request.limit_tokens > most:  # which servers refuse, where room for thinking is added
            arguments[self._rules.limit] = most
            notes.append(f"output limit: {most} tokens, the server's context")
        return await self.line.send(
            lambda: _ask(client, arguments, notes), on_attempt, request, prefix
        )

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Refuse: embeddings of this dialect are not there yet."""
        raise cannot_embed(model, texts, query=query)

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Refuse: the dialect has no reranking."""
        raise cannot_rerank(model, query, texts)

    def drain(self) -> None:
        """Send nothing from now on: attempts and retries that wait end unsent."""
        self.line.closed = True

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connect(self) -> openai.AsyncOpenAI:
        if self._client is None:
            import openai

            self.line.connection_errors = (openai.APIConnectionError,)
            key = self.line.key()
            with self.line.own_environment():
                self._client = openai.AsyncOpenAI(
                    api_key=key,
                    base_url=self.line.endpoint.base_url or "https://api.openai.com/v1",
                    max_retries=0,
                    timeout=self.line.deadline_s,
                    http_client=openai.DefaultAioHttpClient(
                        trust_env=self.line.trusts_proxies, follow_redirects=False
                    ),
                )
        return self._client

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
            "response_format": _response_format({"type": "wibble"}),
        }
        try:
            async with asyncio.timeout(PREFLIGHT_S):
                done = await self._connect().chat.completions.create(**arguments)
        except (openai.APIError, TimeoutError, ValueError):
            return  # refused as it should be, or a fault, which says nothing about schemas
        if not getattr(done, "choices", None):
            return
        raise BadModel(
            f"{self.line.where()} answered a request whose JSON schema is none, so it passes over "
            "schemas and replies would have any shape. Start it with structured outputs, or "
            'declare the endpoint with the dialect "compatible" to have replies checked alone.'
        )


async def _ask(client: openai.AsyncOpenAI, arguments: dict[str, Any], notes: list[str]) -> Outcome:
    completion = await client.chat.completions.create(**arguments)
    try:
        return _outcome(completion, notes)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        kind = type(completion).__name__
        raise MalformedReplyError(f"status 200 with {kind} of another shape") from error


def _arguments(
    request: Request, rules: Rules, dialect: Dialect
) -> tuple[dict[str, Any], list[str]]:
    """Return the SDK's arguments and notes; what is not asked for is not sent."""
    sampled = sampling(request, rules, openai=dialect == "openai")
    thinks = rules.thinking(request.thinking, request.model.name) if request.thinking else Wish({})
    arguments: dict[str, Any] = {
        "model": request.model.name,
        "messages": _messages(request, rules),
        rules.limit: request.limit_tokens,
        **sampled.fields,
    }
    if request.stop:
        arguments["stop"] = request.stop
    if request.tool_choice:
        arguments["tool_choice"] = request.tool_choice
    # As extra fields, for the SDK walks through every level of a known one: half a call's CPU.
    more = dict(thinks.fields)
    if request.json_schema is not None:
        told = rules.schema == "json_schema"
        more["response_format"] = (
            _response_format(request.json_schema) if told else {"type": "json_object"}
        )
    if request.tools:
        more["tools"] = [_tool(tool) for tool in request.tools]
    if more:
        arguments["extra_body"] = more
    return arguments, [note for note in (sampled.note, thinks.note) if note]


def _messages(request: Request, rules: Rules) -> list[dict[str, Any]]:
    system = request.system
    if request.json_schema is not None and rules.schema == "json_object":
        system = f"{system}\n\n{schema_words(request.json_schema)}".strip()
    first = [{"role": "system", "content": system}] if system else []
    return [*first, *({"role": t.role, "content": _content(t)} for t in request.messages)]


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    wrapped = {"name": "reply", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": wrapped}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.schema_}
    return {"type": "function", "function": described}


def _context(model: Any) -> int | None:
    """Return the context that a server tells of a model. Source: vLLM 0.32, SGLang's ModelCard."""
    told = (model.model_extra or {}).get("max_model_len")
    return told if isinstance(told, int) and told > 0 else None


def _is_plausibly(served: str, name: str) -> bool:
    """Return whether a served id may be what `name` asks for: `x:latest`, `models/x`."""
    return served == name or served.startswith(f"{name}:") or served.endswith(f"/{name}")


def _content(turn: Message) -> str:
    return "\n\n".join(render(part) for part in turn.parts)


def _outcome(completion: Any, notes: list[str]) -> Outcome:
    choice = completion.choices[0]
    reply = _reply(completion, choice, notes)
    if reply.stop == "refusal":
        detail = choice.message.refusal or "The provider's filter refused."
        return Unusable(reason="refused", detail=foreign(detail), reply=reply)
    if reply.stop == "length":
        name = foreign(completion.model or "the model")
        detail = f"Cut off at {name}'s limit of output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    return Answered(reply=reply)


_STOPS = {"length": "length", "content_filter": "refusal", "tool_calls": "tool"}


def _reply(completion: Any, choice: Any, notes: list[str]) -> Reply:
    message = choice.message
    extra = message.model_extra or {}
    stop = "refusal" if message.refusal else _STOPS.get(choice.finish_reason or "", "end")
    calls = [
        ToolCall(
            id=call.id or "", name=call.function.name, arguments=_as_json(call.function.arguments)
        )
        for call in message.tool_calls or []
    ]
    return Reply(
        text=_words(message.content),
        reasoning=_words(extra.get("reasoning")) or _words(extra.get("reasoning_content")),
        tool_calls=calls,
        stop=stop,  # type: ignore[arg-type]  # the table's values are the literals
        usage=_usage(completion.usage),
        model=completion.model or "",
        fingerprint=completion.system_fingerprint or "",
        request_id=getattr(completion, "_request_id", None) or "",
        notes=notes,
    )


def _words(told: object) -> str:
    """Return the text of a field that is text, a part with text, or a list of these.

    What is none of them is passed over: the reply is paid for, and checked afterwards.
    """
    if isinstance(told, list):
        return "".join(map(_words, told))
    if isinstance(told, dict):
        return next((_words(told[key]) for key in ("text", "content") if told.get(key)), "")
    return told if isinstance(told, str) else ""


def _as_json(arguments: object) -> str:
    """Return a tool call's arguments as JSON; some servers have read it already."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {})


def _usage(usage: Any) -> Usage | None:
    """Return the usage in our one meaning: OpenAI's prompt tokens include the cached ones."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    prompt, output = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = getattr(prompt, "cached_tokens", None) or 0
    written = getattr(prompt, "cache_write_tokens", None) or 0
    return Usage(
        input_tokens=max(0, (usage.prompt_tokens or 0) - cached - written),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=usage.completion_tokens or 0,
        reasoning_tokens=getattr(output, "reasoning_tokens", None) or 0,
    )
