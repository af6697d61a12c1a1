"""Execute a notebook in a Jupyter kernel of this interpreter: `python -m tests.notebook.execute <in >out`.

A process of its own, because the client leaves sockets to the garbage collector.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

KERNEL = {
    "argv": [sys.executable, "-m", "ipykernel", "-f", "{connection_file}"],
    "display_name": "Python",
    "language": "python",
}


async def execute(folder: Path) -> None:
    (folder / "python3").mkdir()
    (folder / "python3" / "kernel.json").write_text(json.dumps(KERNEL))
    notebook = nbformat.reads(sys.stdin.read(), as_version=4)
    specs = KernelSpecManager(kernel_dirs=[str(folder)])
    manager = AsyncKernelManager(kernel_spec_manager=specs, kernel_name="python3")
    await NotebookClient(notebook, km=manager, timeout=30).async_execute()
    sys.stdout.write(nbformat.writes(notebook))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(execute(Path(folder)))
