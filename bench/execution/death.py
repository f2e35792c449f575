"""A process that ends with the one that started it, however that one went: the kernel closes its pipe."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from multiprocessing import connection
from multiprocessing.connection import Connection


def end_group_with(channel: Connection) -> None:
    """End this process group once the other end of the pipe is closed.

    Args:
        channel: a pipe's end on which nothing else is waited for.
    """
    # a thread cannot do it while one long call of a library holds the interpreter
    if sys.platform == "linux":
        fcntl.fcntl(channel.fileno(), fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(channel.fileno(), fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(channel.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(channel.fileno(), fcntl.F_SETFL, flags | os.O_ASYNC)


def wait_and_end_group(channel: Connection) -> None:
    """The same by a thread, where the kernel cannot do it.

    Args:
        channel: a pipe's end on which the other says nothing.
    """

    def wait() -> None:
        connection.wait([channel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
