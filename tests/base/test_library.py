"""Importing `blockota` does not load the library's modules; the first use of a name loads them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest
from eth_account.signers.base import BaseAccount

import blockota
from blockota import library
from blockota.stores.source import Credentials

OPTIONAL = {Credentials}
"""Types of parameters that a program can omit."""


def test_all_names_of_the_library_are_offered_and_loaded_late() -> None:
    """``import blockota`` imports nothing else; the library's names are imported on first use."""
    assert sorted(blockota.__all__) == sorted(library.__all__)
    assert all(getattr(blockota, name) is getattr(library, name) for name in library.__all__)
    assert set(blockota.__all__) <= set(dir(blockota))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blockota.nothing  # type: ignore[attr-defined]  # a type checker knows the names too
    script = "import sys; old = set(sys.modules); import blockota; print(*sorted(set(sys.modules) - old))"
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert [name for name in loaded if name.partition(".")[0] in {"blockota", "eth_account", "web3", "urllib3"}] == [
        "blockota"
    ]


def test_the_library_needs_neither_web3_nor_a_terminal() -> None:
    """Importing the library does not import web3, Ape, click or rich."""
    script = "import sys, blockota.library; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"web3", "ape", "click", "rich"} & set(run.stdout.split())


def public_functions() -> Iterator[Callable[..., Any]]:
    """Yield the functions of the library, and the public methods of `Network` and `Store`."""
    yield from (library.load_proposal, library.save_proposal, library.open_store)
    for owner in (library.Network, library.Store):
        for name in vars(owner):
            found = inspect.getattr_static(owner, name)
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__init__"):
                yield function


def types_in(annotation: object) -> Iterator[type]:
    """Yield the classes in an annotation such as ``list[Product] | None``."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from types_in(part)


def test_programs_need_no_private_name() -> None:
    """The library exports all types of its parameters and results, and all errors in its docstrings."""
    offered = {getattr(library, name) for name in library.__all__} | OPTIONAL
    for function in public_functions():
        hints = get_type_hints(function, localns={"BaseAccount": BaseAccount}).values()
        ours = {one for hint in hints for one in types_in(hint) if one.__module__.startswith(("blockota", "firmware"))}
        assert ours <= offered, function
        raised = set(re.findall(r"^ +(\w+Error): ", inspect.getdoc(function) or "", re.MULTILINE))
        assert raised <= set(library.__all__), function
