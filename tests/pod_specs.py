"""Read pod specifications with the installed Kubernetes client, and say what it lost of each.

Run as a program: JSON in, one specification per name; JSON out, what was read and written again.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any


def again(spec: dict[str, Any]) -> Any:
    """Return a specification as the client's own models write it."""
    from kubernetes import client as kubernetes_client

    models: Any = kubernetes_client
    client = models.ApiClient()
    if hasattr(models.V1PodSpec, "from_dict"):  # pydantic models, since some version after 32
        return client.sanitize_for_serialization(models.V1PodSpec.from_dict(spec))
    read = client.deserialize(SimpleNamespace(data=json.dumps(spec)), "V1PodSpec")
    return client.sanitize_for_serialization(read)


if __name__ == "__main__":
    import kubernetes

    specs = json.load(sys.stdin)
    written = {name: again(spec) for name, spec in specs.items()}
    print(json.dumps({"version": kubernetes.__version__, "specs": written}))
