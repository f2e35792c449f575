"""Pages of the site that are made when it is built, and links that lead out of it."""

import contextlib
import io
import re
from typing import Any

from mkdocs.structure.files import File, Files

from bench.cli import main

OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the page of all options, printed by the verb that a user has."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(["options", "--all", "--format", "md"])
    head = "# Options\n\nWhat `bench options --all --format md` prints.\n\n"
    files.append(File.generated(config, "options.md", content=head + text.getvalue()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files of the repository outside the site instead of linking to them."""
    return OUT.sub(r"\1 (`\2`)", markdown)
