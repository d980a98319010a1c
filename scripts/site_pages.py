"""A hook of MkDocs for ``make docs``: README and the other pages of the repository's root become pages of the site.

On GitHub, links between these pages and docs/ are relative paths in the repository. On the site, all pages lie in one
folder, so the hook rewrites the links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""The pages in the root of the repository, and their names on the site."""
_LINK = re.compile(r"\]\((?:\.\./)?([\w./-]+\.(?:md|png))(#[\w-]+)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the repository's root to the files of the site."""
    from mkdocs.structure.files import File  # type: ignore[import-not-found]  # noqa: PLC0415 - in a venv of its own

    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the targets of a page's links, including links to pictures, by the names on the site."""
    return _LINK.sub(lambda link: f"]({site_name(link[1])}{link[2] or ''})", markdown)


def site_name(path: str) -> str:
    """Return a page's name on the site; `path` is relative to the repository's root or to docs/."""
    return PAGES.get(path, path.removeprefix("docs/"))
