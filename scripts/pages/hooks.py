"""Adds the pages of the reference that are made of the code to the site, when MkDocs builds it."""

import os
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import reference  # noqa: E402

MADE = ROOT / "target" / "docs"
# The notebook reads the recording that `scripts/docs` makes.
os.environ.setdefault("DEMO", str(MADE / "demo"))
# Its kernel has settings of its own: not those of who builds, and no word on the loopback socket.
os.environ["IPYTHONDIR"] = str(MADE / "ipython")
KERNEL_SETTINGS = "get_config().IPKernelApp.log_level = 'ERROR'\n"


def on_startup(command: str, dirty: bool) -> None:
    """Writes the settings of the notebook's kernel."""
    profile = MADE / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL_SETTINGS, encoding="utf-8")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds each page of `reference.PAGES`."""
    for name, page in reference.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files
