"""What a candidate may try: each a script that prints ESCAPED where it got through.

`{outside}` is a folder of the caller's that holds `secret.txt`, a Unix socket `sock` that somebody
listens at, and an empty folder `open` that anybody may write; `{port}` is a TCP and UDP port on
loopback that somebody serves; `{parent}` is the caller's process.
"""

from __future__ import annotations

from nemoflows.sandbox.levels import Level

_TRY = "def attempt(f):\n    try:\n        f()\n    except BaseException as e:\n        print(repr(e))\n    else:\n        print('ESCAPED')\n"

CONTAINED_AT: dict[str, Level] = {
    "tcp": "landlock", "udp": "landlock", "dns": "landlock", "unix socket": "landlock",
    "datagram pair": "landlock", "read outside": "landlock", "read by symlink": "landlock",
    "read by dots": "landlock", "write outside": "landlock", "truncate outside": "landlock",
    "change modes outside": "landlock", "write the copy": "landlock", "another's copy": "landlock",
    "new namespace": "landlock", "new namespace by clone3": "landlock", "trace the parent": "landlock",
    "io_uring": "landlock", "shared memory": "landlock", "memory in no map": "landlock", "see outside": "full",
    "kill the parent": "weak", "environment": "weak", "raise limits": "weak",
}  # fmt: skip
"""Attack → the weakest level that contains it."""

SCRIPTS = {
    "tcp": "import socket\nattempt(lambda: socket.create_connection(('127.0.0.1', {port}), 2))",
    "udp": (
        "import socket\ndef f():\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    s.sendto(b'x', ('127.0.0.1', {port}))\n    s.settimeout(2)\n    s.recv(1)\nattempt(f)"
    ),
    "dns": "import socket\nsocket.setdefaulttimeout(2)\nattempt(lambda: socket.gethostbyname('example.org'))",
    "unix socket": (
        "import socket\ndef f():\n    s = socket.socket(socket.AF_UNIX)\n"
        "    s.connect('{outside}/sock')\nattempt(f)"
    ),
    "datagram pair": (
        "import socket\ndef f():\n    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "    a.sendto(b'x', '{outside}/datagrams')\nattempt(f)"
    ),
    "read outside": "attempt(lambda: open('{outside}/secret.txt').read())",
    "read by symlink": (
        "import os\ndef f():\n    link = os.environ['HOME'] + '/link'\n"
        "    os.symlink('{outside}/secret.txt', link)\n    open(link).read()\nattempt(f)"
    ),
    "read by dots": (
        "import os\nup = '../' * 32\nattempt(lambda: open(up + '{outside}/secret.txt'.lstrip('/')).read())"
    ),
    "write outside": "attempt(lambda: open('{outside}/open/written', 'w').write('x'))",
    "truncate outside": "import os\nattempt(lambda: os.truncate('{outside}/open/there', 0))",
    "change modes outside": (
        "import os\ndef f():\n    os.chmod('{outside}/open/there', 0)\n"
        "    if os.stat('{outside}/open/there').st_mode & 0o777:\n        raise OSError\nattempt(f)"
    ),
    "write the copy": "attempt(lambda: open(__file__, 'a').write('x'))",
    "another's copy": (
        "import glob, os\ndef f():\n    mine = os.path.dirname(os.getcwd())\n"
        "    other = [d for d in glob.glob(os.path.dirname(mine) + '/nemoflows-run-*') if d != mine]\n"
        "    os.listdir(other[0] + '/copy')\nattempt(f)"
    ),
    "new namespace": (
        "import ctypes, os\ndef f():\n    if ctypes.CDLL(None).unshare(0x10000000):\n"
        "        raise OSError\nattempt(f)"
    ),
    "new namespace by clone3": (
        "import ctypes, struct, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "a = struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)\n"
        "n = c.syscall(435, ctypes.create_string_buffer(a, 88), 88)\n"
        "if n == 0: os._exit(0)\nprint('ESCAPED' if n > 0 else n)"
    ),
    "trace the parent": (
        "import ctypes, os\nc = ctypes.CDLL(None)\n"
        "print('ESCAPED' if c.ptrace(16, {parent}, 0, 0) == 0 or c.ptrace(0, 0, 0, 0) == 0 else 'no')"
    ),
    "io_uring": (
        "import ctypes\nb = ctypes.create_string_buffer(120)\n"
        "print('ESCAPED' if ctypes.CDLL(None).syscall(425, 4, b) >= 0 else 'no')"
    ),
    "shared memory": (
        "import ctypes\nc = ctypes.CDLL(None)\nn = c.shmget(0, 4096, 0o1600)\n"
        "print('ESCAPED' if n >= 0 else 'no')\nc.shmctl(n, 0, None)"
    ),
    "memory in no map": "import os\nattempt(lambda: os.memfd_create('x'))",
    "see outside": "import os\nattempt(lambda: os.stat('{outside}'))",
    "kill the parent": (
        "import os, signal\ndef f():\n    os.kill({parent}, signal.SIGKILL)\nattempt(f)\n"
        "def g():\n    os.kill(os.getppid() or {parent}, signal.SIGKILL)\n"
        "attempt(g) if os.getppid() > 1 else None"
    ),
    "environment": (
        "import os\nprint('ESCAPED' if 'hush' in str(dict(os.environ)) else 'no')\n"
        "attempt(lambda: open('/proc/{parent}/environ').read()[0])"
    ),
    "raise limits": (
        "import resource as r\nattempt(lambda: r.setrlimit(r.RLIMIT_CPU, (r.RLIM_INFINITY,) * 2))"
    ),
}  # fmt: skip


def script(name: str, **places: object) -> str:
    """Return an attack as a program."""
    body = SCRIPTS[name]
    for key, value in places.items():
        body = body.replace("{" + key + "}", str(value))
    return f"{_TRY}{body}\n"
