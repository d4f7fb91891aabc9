"""Modules that somebody loads lazily, really loaded before several threads use them.

flytekit puts `pyarrow`, `pandas` and `joblib` into `sys.modules` as `importlib.util.LazyLoader`
makes them; under Python 3.11 a thread that comes while another one loads such a module sees half of
it ("module 'pyarrow' has no attribute 'struct'").
"""

from __future__ import annotations

import importlib.util
import sys
import threading

_lock = threading.Lock()
_Lazy: type | None = getattr(importlib.util, "_LazyModule", None)


def load_lazy_modules() -> None:
    """Load every module that is still lazy; whoever comes meanwhile waits until all are whole."""
    with _lock:
        for module in list(sys.modules.values()):
            if type(module) is _Lazy:
                vars(module)  # any attribute loads it
