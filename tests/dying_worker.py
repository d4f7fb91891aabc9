"""A reader's process that is killed over its first file, as where memory runs out."""

import os
import signal
import sys

from nemoflows.search import workers

if __name__ == "__main__":
    workers._send(sys.stdout.buffer, {}, b"")
    workers._receive(sys.stdin.buffer)
    os.kill(os.getpid(), signal.SIGKILL)
