"""The OpenAI dialect: chat completions at any address, through the official SDK.

Attempts, pauses and deadlines are `nemoflows.engines.line`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nemoflows.calls import (
    Answered,
    Message,
    Outcome,
    Reply,
    Request,
    ToolCall,
    Unusable,
    Usage,
)
from nemoflows.engines.line import Line, MalformedReplyError
from nemoflows.engines.protocol import OnAttempt, Vectors, cannot_embed, cannot_rerank
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.models import Endpoint
from nemoflows.prompts import render
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    import openai

PREFLIGHT_S = 10.0
"""Time that a server has to list its models."""


class OpenAI:
    """Models behind one OpenAI-compatible address."""

    paid = True
    adapter = "openai-1"

    def __init__(self, endpoint: Endpoint, *, name: str, deadline_s: float) -> None:
        self.line = Line(endpoint, name, deadline_s)
        self._client: openai.AsyncOpenAI | None = None

    def identity(self, model: ModelRef) -> str:
        """Return the spelling: a served name is all that a client knows."""
        return str(model)

    async def preflight(self, model: ModelRef) -> None:
        """List the endpoint's models, which is free; a list that cannot be had is passed over.

        Raises:
            BadModel: The key is missing or refused, or the endpoint does not serve the model.
            EndpointDown: Nothing answers.
        """
        import openai

        if model.revision or model.adapter:
            raise BadModel(
                f"{str(model)!r} names a revision or an adapter, which this dialect cannot ask "
                "for: name the model as it is served (a label after # is free)."
            )
        client = self._connect()
        try:
            async with asyncio.timeout(PREFLIGHT_S):
                served = [found.id async for found in client.models.list()]
        except (openai.APIConnectionError, TimeoutError, openai.InternalServerError) as error:
            raise EndpointDown(
                f"{self.line.where()} did not answer when asked for its models "
                f"({type(error).__name__}). Start the server or mend the address."
            ) from error
        except openai.AuthenticationError as error:
            key = self.line.endpoint.key_env or "key_env (none is configured)"
            raise BadModel(f"{self.line.where()} refuses the key in {key}.") from error
        except (openai.APIError, ValueError, TypeError, AttributeError):
            return  # no list of models: some servers have none, so the first call will tell
        if served and not any(_is_plausibly(name, model.name) for name in served):
            raise BadModel(
                f"{self.line.where()} does not serve {model.name!r}; it has "
                f"{', '.join(served[:8])}."
            )

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply, again on transient refusals, within one deadline."""
        client = self._connect()  # importing the SDK takes seconds that are not the server's
        return await self.line.send(lambda: _ask(client, request), on_attempt)

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Refuse: embeddings of this dialect are not there yet."""
        raise cannot_embed(model, texts, query=query)

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Refuse: the dialect has no reranking."""
        raise cannot_rerank(model, query, texts)

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
                    http_client=openai.DefaultAioHttpClient(trust_env=self.line.trusts_proxies),
                )
        return self._client


async def _ask(client: openai.AsyncOpenAI, request: Request) -> Outcome:
    completion = await client.chat.completions.create(**_arguments(request))
    try:
        return _outcome(completion)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        kind = type(completion).__name__
        raise MalformedReplyError(f"status 200 with {kind} of another shape") from error


def _arguments(request: Request) -> dict[str, Any]:
    """Return the SDK's arguments; what is not asked for is not sent."""
    messages = [{"role": "system", "content": request.system}] if request.system else []
    messages += [{"role": turn.role, "content": _content(turn)} for turn in request.messages]
    arguments: dict[str, Any] = {
        "model": request.model.name,
        "messages": messages,
        "max_completion_tokens": request.max_output_tokens,
    }
    if request.sampling is not None:
        arguments |= request.sampling.model_dump(exclude_none=True)
    if request.stop:
        arguments["stop"] = request.stop
    if request.json_schema is not None:
        wrapped = {"name": "reply", "schema": request.json_schema, "strict": True}
        arguments["response_format"] = {"type": "json_schema", "json_schema": wrapped}
    if request.tool_choice:
        arguments["tool_choice"] = request.tool_choice
    if request.tools:
        arguments["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema_,
                },
            }
            for tool in request.tools
        ]
    return arguments


def _is_plausibly(served: str, name: str) -> bool:
    """Return whether a served id may be what `name` asks for: `x:latest`, `models/x`."""
    return served == name or served.startswith(f"{name}:") or served.endswith(f"/{name}")


def _content(turn: Message) -> str:
    return "\n\n".join(render(part) for part in turn.parts)


def _outcome(completion: Any) -> Outcome:
    choice = completion.choices[0]
    reply = _reply(completion, choice)
    if reply.stop == "refusal":
        detail = choice.message.refusal or "The provider's filter refused."
        return Unusable(reason="refused", detail=str(detail)[:500], reply=reply)
    if reply.stop == "length":
        detail = f"Cut off at {completion.model or 'the model'}'s limit of output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    return Answered(reply=reply)


_STOPS = {"length": "length", "content_filter": "refusal", "tool_calls": "tool"}


def _reply(completion: Any, choice: Any) -> Reply:
    message = choice.message
    extra = message.model_extra or {}
    stop = "refusal" if message.refusal else _STOPS.get(choice.finish_reason or "", "end")
    calls = [
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in message.tool_calls or []
    ]
    return Reply(
        text=message.content or "",
        reasoning=extra.get("reasoning") or extra.get("reasoning_content") or "",
        tool_calls=calls,
        stop=stop,  # type: ignore[arg-type]  # the table's values are the literals
        usage=_usage(completion.usage),
        model=completion.model or "",
        fingerprint=completion.system_fingerprint or "",
        request_id=getattr(completion, "_request_id", None) or "",
    )


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
