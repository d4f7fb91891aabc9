"""Claude through the official SDK, one call at a time.

Attempts, pauses and deadlines are `nemoflows.engines.http`'s; what a request is in the API's terms
is `messages`'. A prefix that several requests share is marked for the API's cache where it is long
enough for the model to take it; the first such call leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemoflows.calls import Outcome, Reply, Request
from nemoflows.calls.wire import prefix_key
from nemoflows.engines.anthropic import messages
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.http import streams
from nemoflows.engines.http.engine import (
    ODD_ANSWERS,
    RemoteEngine,
    announcing,
    forget_headers,
    refuse_variants,
)
from nemoflows.engines.http.learning import MOST_LEARNED, refused_field
from nemoflows.errors import BadModel
from nemoflows.models import Endpoint
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    import anthropic


_OPTIONAL = frozenset({"output_config", "thinking"})
"""Fields without which a request says nearly the same."""


class Anthropic(RemoteEngine):
    """Claude models behind one address."""

    wire_version = "anthropic-2"

    def __init__(
        self, endpoint: Endpoint, *, name: str, deadline_s: float, concurrency: int = 64
    ) -> None:
        super().__init__(endpoint, name=name, deadline_s=deadline_s, concurrency=concurrency)
        self._refused: dict[str, frozenset[str]] = {}
        """Fields that servers refused of a model's requests, by its name."""

    async def preflight(self, model: ModelRef) -> int | None:
        """Ask the API to describe the model, which is free, and return its context in tokens.

        Raises:
            BadModel: The key is missing or refused, or there is no such model.
            EndpointDown: Nothing answers.
        """
        import anthropic

        refuse_variants(model)
        client = self.connect()
        try:
            found = await self.transport.ask_free(lambda: client.models.retrieve(model.name))
            return self._context(found)
        except anthropic.NotFoundError as error:
            if not _is_envelope(error.body):
                return None  # vLLM's own server has no such route: the first call will tell
            raise BadModel(f"{self.transport.where()} does not serve {model.name!r}.") from error
        except (anthropic.APIError, *ODD_ANSWERS):
            return None  # nor have some proxies

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply, again on transient refusals, within one deadline."""
        client = self.connect()  # importing the SDK takes seconds that are not the server's
        prefix = prefix_key(request) if messages.is_cached(request) else ""
        return await self.transport.send(
            lambda: self._ask(client, request), on_attempt, request, prefix
        )

    async def _ask(self, client: anthropic.AsyncAnthropic, request: Request) -> Outcome:
        """Ask once; what the server refuses of a request's form is learned, and left out."""
        name = request.model.name
        for _ in range(MOST_LEARNED):
            refused = self._refused.get(name, frozenset())
            arguments, notes = messages.to_arguments(request, refused)
            try:
                return await self.came(client.messages.with_raw_response.create(**arguments), notes)
            except Exception as error:
                field = refused_field(error, _OPTIONAL & arguments.keys())
                if not field:
                    raise
                self._refused[name] = refused | {field}
                self.transport.learned(name, error)
        raise AssertionError("there are fewer optional fields")

    def _joined(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        return streams.message(events)

    def _read(self, body: dict[str, Any], came: Reply) -> Outcome:
        return messages.read_message(body, came)

    def limit_tokens(self, request: Request) -> int:
        """Return the most output tokens that a call is allowed, thinking included."""
        return messages.limit_tokens(request)

    def _make_client(self) -> anthropic.AsyncAnthropic:
        import anthropic

        transport = self.transport
        own = transport.is_the_sdks_own()
        transport.connection_errors = (anthropic.APIConnectionError,)
        transport.sdk_errors = (anthropic.APIError,)
        client = anthropic.AsyncAnthropic(
            api_key=transport.key(),
            base_url=transport.endpoint.base_url or "https://api.anthropic.com",
            max_retries=0,
            # Any timeout of one's own lifts the SDK's refusal of large outputs; the real deadline
            # is the transport's.
            timeout=transport.deadline_s,
            open_telemetry=None if own else {},
            http_client=announcing(
                anthropic.DefaultAioHttpClient(
                    trust_env=transport.trusts_proxies, follow_redirects=False
                )
            ),
        )
        if not own:
            client.webhook_key = None
            forget_headers(client)
        return client

    def _context(self, model: Any) -> int | None:
        told = model.max_input_tokens
        return told if isinstance(told, int) and told > 0 else None


def _is_envelope(body: object) -> bool:
    """Return whether an error's body is one of the API's own, and not of a missing route."""
    return isinstance(body, dict) and "error" in body
