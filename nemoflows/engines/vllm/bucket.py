"""Weights that lie in a bucket, copied to this machine before an engine is started with them.

vLLM's own streamers open a bucket with AWS's or Google's own credentials alone; this opens it as
everything else is opened: with a pod's FLYTE_AWS_*, Flyte's configuration, any scheme of fsspec's.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from nemoflows.errors import BadModel
from nemoflows.storage.filesystem import filesystem
from nemoflows.storage.local import LocalStore
from nemoflows.storage.store import translated

LAST = "config.json"
"""The file that marks a copy as whole: every model has it."""


def at_hand(model: str) -> str:
    """Return where this machine has a model: a copy of a bucket's; else the name as it is.

    The copy is kept beside the hub's, on the mounted volume where there is one, and is made again
    where what lies in the bucket has changed.

    Raises:
        BadModel: No model lies there.
        CorpusError: The bucket cannot be read, or there is no space.
        EndpointDown: It could not be reached.
    """
    if "://" not in model:
        return model
    with translated(f"The weights in {model} cannot be read"):
        files, path = filesystem(model, bulk=True)
        path = path.rstrip("/")
        listed = files.find(path, detail=True)
    marks = {
        name.removeprefix(f"{path}/"): [one["size"], str(one.get("ETag") or one.get("mtime"))]
        for name, one in listed.items()
    }
    if LAST not in marks:
        raise BadModel(f"{model} has no {LAST}: name the folder that holds a model's files.")
    content = json.dumps([model, sorted(marks.items())]).encode()
    name = hashlib.sha256(content).hexdigest()[:32]
    root = Path(os.environ.get("HF_HOME") or tempfile.gettempdir()) / "nemoflows"
    if not (root / name / LAST).is_file():
        with LocalStore(root).folder(name, last=LAST) as folder:
            for one in marks:
                to = folder / one
                to.parent.mkdir(parents=True, exist_ok=True)
                with translated(f"{model}/{one} cannot be copied"):
                    files.get_file(f"{path}/{one}", str(to))
    return str(root / name)
