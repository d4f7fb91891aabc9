"""A repository at a git address, pinned to a commit: fetched over https by dulwich, never by git.

Only that commit is asked for, without its history, and its id vouches for all that is in it. No
settings of git's are read, so that none names a program, and nothing is checked out: files are read
from the objects.

Not covered: submodules and what git LFS keeps elsewhere, both of which are told; addresses by ssh.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha1
from io import BytesIO
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from dulwich.client import AbstractHttpGitClient, default_urllib3_manager
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.object_store import ObjectStoreGraphWalker
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import PackData, PackInflater, unpack_object_at

from nemoflows.coding.git_address import KEY, Address
from nemoflows.errors import BadInput, EndpointDown, NemoflowsError, one_line
from nemoflows.sandbox import trees
from nemoflows.sandbox.archives import links_inside
from nemoflows.sandbox.copies import folders_of
from nemoflows.sandbox.listing import MAX_FILES, NO_FILE, is_plain
from nemoflows.storage.beneath import MAX_PATH_BYTES

FETCH_S = 300.0
"""Time that one fetch may take in all. Source: chosen."""
ANSWER_S = 30.0
"""Time that a server may be silent. Source: chosen."""
MAX_REDIRECTS = 3
MAX_PACK_BYTES = trees.MAX_BYTES
_MAX_OBJECT_BYTES = 2 * trees.MAX_BYTES
"""Of all objects after inflation: what files hold, and what lists them."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_LFS = b"version https://git-lfs.github.com/spec/"
_DELTAS = {6, 7}
"""Types of objects that are told as differences. Source: gitformat-pack(5)."""


class Fetched(NamedTuple):
    """The files of a commit, and what of it is not among them."""

    tree: trees.Tree
    left_out: list[str]


def fetch(address: Address, *, key: str = "") -> Fetched:
    """Return the files of a commit.

    Args:
        key: A token, `user:token`, or either with the only host that it is for, as git keeps it:
            `https://user:token@host`.

    Raises:
        BadInput: The server does not have it, does not give it, or it is too large.
        EndpointDown: The server does not answer; a later attempt may have it.
    """
    key = _for(address.url, key)
    client = _Client(address.url, key)
    pack = bytearray()

    def keep(data: bytes) -> int:
        pack.extend(data)
        return len(data)

    def wanted(refs: object, depth: int | None = None) -> list[ObjectID]:
        del refs, depth
        return [ObjectID(address.commit.encode())]

    try:
        client.fetch_pack("", wanted, _nothing_yet(), keep, depth=1, ref_prefix=[b"HEAD"])
        return _files(_objects(bytes(pack)), address.commit)
    except NemoflowsError:
        raise
    except Exception as error:  # noqa: BLE001  (what is no git makes dulwich raise anything)
        told = one_line(_without(str(error), key))[:300].rstrip(".")
        raise BadInput(
            f"{address.url} does not give the commit {address.commit}: {type(error).__name__}: "
            f"{told}. Is it pushed, and on a branch or a tag there? Nothing was run."
        ) from None


def _for(url: str, key: str) -> str:
    """Return the key where it is for an address's host; empty where it is for another one."""
    if "://" not in key:
        return key
    own, asked = urlsplit(key), urlsplit(url)
    user, token = unquote(own.username or ""), unquote(own.password or "")
    same = own.netloc.rpartition("@")[2].lower() == asked.netloc.lower()
    return (f"{user}:{token}" if token else user) if same and own.scheme == asked.scheme else ""


def _nothing_yet() -> ObjectStoreGraphWalker:
    return ObjectStoreGraphWalker([], lambda _: [])


def _without(text: str, key: str) -> str:
    for part in {key, key.rpartition(":")[2]} - {""}:
        text = text.replace(part, "***")
    return text


class _Client(AbstractHttpGitClient):
    """Speaks git's protocol with one host, within bounds."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, quiet=True)
        # Without settings of git's: with proxies and certificates of the environment alone.
        self._pool: Any = default_urllib3_manager(None, base_url=url, timeout=ANSWER_S)
        self._key = key
        self._until_s = monotonic() + FETCH_S
        self._left_bytes = MAX_PACK_BYTES

    def _get_url(self, path: str | bytes) -> str:
        del path
        return self._base_url

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: Any = None,
        raise_for_status: bool = True,
    ) -> tuple[Any, Callable[[int], bytes]]:
        del raise_for_status
        sent = {"Accept-Encoding": "identity", "User-Agent": "git/nemoflows", **(headers or {})}
        reply, found = self._answer(url, sent, data), url
        for _ in range(MAX_REDIRECTS):
            if reply.status not in {301, 302, 307, 308} or data is not None:
                break
            found = urljoin(found, reply.headers.get("location", ""))
            reply.close()
            reply = self._answer(found, sent, None)
        self._refuse(reply)
        reply.content_type = reply.headers.get("content-type") or ""
        if not reply.content_type.startswith("application/x-git-"):
            raise BadInput(
                f"{self._base_url} is no git address: it answers with "
                f"{one_line(reply.content_type)[:100] or 'no type'}. Nothing was run."
            )
        reply.redirect_location = found if found != url else ""
        return reply, lambda n: self._read(reply, n)

    def _answer(self, url: str, headers: Mapping[str, str], data: Any) -> Any:
        import urllib3

        if urlsplit(url)[:2] != urlsplit(self._base_url)[:2]:
            raise BadInput(
                f"{self._base_url} leads on to {one_line(urlsplit(url).netloc)!r}, and only its "
                "own host is asked. Give the address that it leads to. Nothing was run."
            )
        if self._key:
            user, colon, token = self._key.partition(":")
            whole = f"{user}:{token}" if colon else f"x-access-token:{user}"
            headers = {**headers, **urllib3.make_headers(basic_auth=whole)}
        method = "GET" if data is None else "POST"
        try:
            return self._pool.request(
                method, url, headers=headers, body=data, redirect=False, retries=False,
                preload_content=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise self._down(error) from None

    def _refuse(self, reply: Any) -> None:
        if reply.status == 200:
            return
        if reply.status in _PASSING:
            raise self._down(f"HTTP {reply.status}")
        key = f"the key in {KEY} does not open it" if self._key else (
            f"it wants a key: name the secret {KEY} in NEMOFLOWS_SECRETS, or set the variable"
        )  # fmt: skip
        raise BadInput(
            f"{self._base_url} answers {reply.status}: there is no repository, or {key}. Nothing "
            "was run."
        )

    def _down(self, why: object) -> EndpointDown:
        told = one_line(_without(str(why), self._key))[:300]
        return EndpointDown(f"{self._base_url} does not answer: {told}. Nothing was run.")

    def _read(self, reply: Any, n: int) -> bytes:
        """Read as many bytes as are asked for, in pieces, each within what is left of the time."""
        import urllib3

        found = bytearray()
        while len(found) < n:
            try:
                data = reply.read1(n - len(found))
            except urllib3.exceptions.HTTPError as error:
                raise self._down(error) from None
            if not data:
                break
            found += data
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                trees.refuse_large(0, trees.MAX_BYTES + 1)
            if monotonic() > self._until_s:
                raise self._down(f"it took more than {FETCH_S:.0f} s")
        return bytes(found)


def _objects(pack: bytes) -> dict[ObjectID, ShaFile]:
    """Return what a pack holds by id, which is computed from what it is.

    Raises:
        BadInput: Its objects are too many or too large, as they say before they are inflated.
    """
    left_bytes, at = _MAX_OBJECT_BYTES, 12
    for n in range(int.from_bytes(pack[8:12])):
        kind, size = _head(pack, at)
        left_bytes -= size
        _refuse(n, left_bytes)
        found, at = unpack_object_at(pack, at, sha1)
        if kind in _DELTAS:
            left_bytes -= _size_after(b"".join(found.decomp_chunks[:2])[:32])
            _refuse(n, left_bytes)
    data = PackData.from_file(BytesIO(pack), DEFAULT_OBJECT_FORMAT, len(pack))
    data.check()
    return {each.id: each for each in PackInflater.for_pack_data(data)}


def _refuse(n_objects: int, left_bytes: int) -> None:
    # Each file may lie in a folder of its own.
    if n_objects > 2 * MAX_FILES or left_bytes < 0:
        trees.refuse_large(MAX_FILES + 1, 0)


def _head(pack: bytes, at: int) -> tuple[int, int]:
    """Return an object's type and its length once it is inflated. Source: gitformat-pack(5)."""
    kind, size, shift = pack[at] >> 4 & 7, pack[at] & 15, 4
    while pack[at] & 0x80:
        at += 1
        size |= (pack[at] & 0x7F) << shift
        shift += 7
    return kind, size


def _size_after(delta: bytes) -> int:
    """Return the length of what a difference makes; the first number is of what it is made from."""
    sizes = re.match(rb"[\x80-\xff]*[\x00-\x7f]([\x80-\xff]*[\x00-\x7f])", delta, re.DOTALL)
    digits = sizes[1] if sizes else b""
    return sum((digit & 0x7F) << 7 * n for n, digit in enumerate(digits))


def _files(objects: Mapping[ObjectID, ShaFile], commit: str) -> Fetched:
    """Return the files of a commit.

    Raises:
        BadInput: There are too many, or it is no commit.
    """
    top = objects.get(ObjectID(commit.encode()))
    if not isinstance(top, Commit):
        raise BadInput(f"{commit} is not a commit that the server gave. Nothing was run.")
    files, executable, links = dict[str, bytes](), set[str](), dict[str, str]()
    left_out, n_bytes = [], 0
    for path, mode, found in _walked(objects, top.tree):
        trees.refuse_large(len(files), n_bytes)
        if S_ISGITLINK(mode):
            left_out.append(f"{path}: a submodule, which is not fetched")
        elif not isinstance(found, Blob) or not is_plain(path):
            left_out.append(f"{path}: {NO_FILE}")
        elif stat.S_ISLNK(mode):
            links[path] = os.fsdecode(found.data)
        else:
            files[path], n_bytes = found.data, n_bytes + len(found.data)
            executable |= {path} if mode & 0o100 else set()
            if found.data.startswith(_LFS):
                left_out.append(f"{path}: what git LFS keeps elsewhere, which is not fetched")
    kept = links_inside(links, {*files, *folders_of(files)})
    gone = sorted(links.keys() - kept.keys())
    left_out += [f"{path}: a link that leads to nothing in the copy" for path in gone]
    return Fetched(trees.Tree(files, frozenset(executable), kept), left_out)


def _walked(
    objects: Mapping[ObjectID, ShaFile], tree: ObjectID
) -> Iterator[tuple[str, int, ShaFile | None]]:
    """Yield what lies in a tree, and in those below it: paths, modes and objects."""
    folders, n = [("", tree)], 0
    while folders:
        folder, own = folders.pop()
        here = objects.get(own)
        if not isinstance(here, Tree) or len(os.fsencode(folder)) > MAX_PATH_BYTES:
            raise BadInput(f"{folder!r} in the commit is no folder. Nothing was run.")
        for name, mode, child in here.items():
            n += 1
            _refuse(n, 0)  # a folder may be named in many places
            path = f"{folder}{os.fsdecode(name)}"
            if stat.S_ISDIR(mode):
                folders.append((f"{path}/", child))
            else:
                yield path, mode, objects.get(child)
