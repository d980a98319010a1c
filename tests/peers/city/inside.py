"""Run a Python module inside a network namespace: ``python -m tests.peers.city.inside NAMESPACE MODULE ARGUMENTS``.

``ip netns exec`` starts a new Python process. The module instead moves its own process into the namespace. A process
that was forked from `tests.support.fork_server` therefore need not import its libraries again.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys

_CLONE_NEWNET = 0x40000000
"""The kind of namespace that setns(2) is to enter."""


def enter(namespace: str) -> None:
    """Move this process, which must have one thread, into a namespace of ``ip netns``.

    Raises:
        OSError: the namespace does not exist, or this user may not enter it.
    """
    place = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(place, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(place)


def main() -> None:
    """Enter the namespace, and run the module as ``python -m MODULE ARGUMENTS`` does."""
    namespace, module, *_ = sys.argv[1:]
    enter(namespace)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
