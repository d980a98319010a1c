"""The operating log of a service, and the troubles that its pages show."""

from __future__ import annotations

from blockota.line_log import LineLog


def test_neither_lines_nor_troubles_contain_the_path_of_a_url() -> None:
    """The path of a node's URL, which is often an API key, is removed from lines and from the stored troubles."""
    lines: list[str] = []
    log = LineLog(lines.append)
    log.state("chain", "RuntimeError: https://node.example/v3/secretkey does not answer")
    assert "node.example" in log.troubles["chain"]
    assert "secretkey" not in log.troubles["chain"] + lines[0]


def test_a_trouble_is_written_once_until_it_changes() -> None:
    """A repeated failure adds no line, although its text contains a URL; a recovery adds one."""
    lines: list[str] = []
    log = LineLog(lines.append)
    for trouble in ("https://node.example/key fails", "https://node.example/key fails", "", ""):
        log.state("chain", trouble)
    assert len(lines) == 2
    assert not log.troubles
