"""Adds the pages of the reference that are made of the code to the site, when MkDocs builds it."""

import os
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import reference  # noqa: E402

# The notebook reads the recording that `scripts/docs` makes.
os.environ.setdefault("DEMO", str(ROOT / "target" / "docs" / "demo"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds each page of `reference.PAGES`, and the picture of the screen."""
    for name, page in reference.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files
