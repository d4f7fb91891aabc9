"""The address of a repository elsewhere: https, pinned to a commit, without a key in it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from nemoflows.errors import BadInput, one_line
from nemoflows.models import secret_in
from nemoflows.settings import is_loopback

KEY = "GIT_TOKEN"
"""Variable, and secret, with a token, `user:token`, or `https://user:token@HOST` for that host."""
_ADDRESS = re.compile(r"(?:git\+)?(?P<url>https?://[^/\s#]+/[^\s#]*?)(?:[@#](?P<pin>[^@#/\s]*))?")
_LIKE_GIT = re.compile(r"(?:git\+)?(?:https?|ssh|git)://|[\w.-]+@[\w.-]+:", re.IGNORECASE)
_HOW = (
    "Write https://HOST/PATH.git@COMMIT, with all 40 digits of the commit's id. Nothing was asked."
)


class Address(NamedTuple):
    """Where a repository is, and which commit of it is meant."""

    url: str
    commit: str

    @property
    def name(self) -> str:
        """Return what the repository is called."""
        return self.url.rstrip("/").rpartition("/")[2].removesuffix(".git") or "repository"


def is_address(repo: str) -> bool:
    """Return whether somebody means a repository elsewhere."""
    return bool(_LIKE_GIT.match(repo))


def read_address(repo: str, *, offline: bool = False) -> Address:
    """Return the parts of an address; it is not repeated where it may hold a key.

    Args:
        repo: As `https://host/x.git@COMMIT`, or with `#` before the commit.
        offline: Whether only this machine may be asked.

    Raises:
        BadInput: It is not https, holds a key, or names no commit.
    """
    found = _ADDRESS.fullmatch(repo)
    if found is None:
        raise BadInput(f"The address of the repository cannot be read. {_HOW}")
    url, pin = found["url"].rstrip("/"), found["pin"] or ""
    if secret_in(url):
        raise BadInput(
            "The address of the repository holds a user, a key or a query, and is kept with the "
            f"run. Leave it out, and put the key into the secret {KEY}. {_HOW}"
        )
    host = urlsplit(url).hostname or ""
    if not (url.startswith("https://") or is_loopback(url)):
        raise BadInput(f"Only https is spoken with {host}. {_HOW}")
    if offline and not is_loopback(url):
        raise BadInput(f"NEMOFLOWS_OFFLINE=1 allows loopback alone, not {host}. Nothing was asked.")
    if not re.fullmatch(r"[0-9a-f]{40}", pin):
        raise BadInput(
            f"{one_line(url)} is not pinned to a commit, and a branch may be another one tomorrow; "
            f"`git ls-remote {one_line(url)}` lists them. {_HOW}"
        )
    return Address(url, pin)
