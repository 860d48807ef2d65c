"""A hook of mkdocs: links to files of the repository become plain text, since a site has none."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)#]*)(?:#[^)]*)?\)")
LOG = logging.getLogger("mkdocs.hooks.site")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Drop links that lead out of docs/; one to a file that is not there is a warning."""
    folder = Path(page.file.abs_src_path).parent
    docs = Path(config.docs_dir)

    def without_link(match: re.Match[str]) -> str:
        target = (folder / match["target"]).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.exists():
            LOG.warning("%s: no such file: %s", page.file.src_uri, match["target"])
        return match["text"]

    return LINK.sub(without_link, markdown)
