"""The pages under docs/: their tables are the code's, their code runs, their links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import sys
from inspect import iscoroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentrt.errors import AgentRTError
from agentrt.testing.model_contracts import model_checks
from tests import scripted_chat
from tests.http_server import Server
from tests.models.dialects import DIALECTS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def tables() -> Any:
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_tables_are_those_of_the_code(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables().fill(text) == text, "out of date: run `python docs/tables.py`"


def test_the_conformance_table_has_each_check_and_each_dialect() -> None:
    """That what it says is so is for tests/models/test_conformance.py."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    head, _, *rows = re.findall(r"^\| (.*) \|$", page.partition("<!-- conformance")[2], re.MULTILINE)
    assert head.split(" | ")[1:] == [dialect.name for dialect in DIALECTS]
    assert [row.split(" | ")[0] for row in rows] == [check.__name__.replace("_", " ") for check in model_checks]
    assert {cell for row in rows for cell in row.split(" | ")[1:]} == {"yes", "-"}


def test_what_the_tables_say_is_about_fields_there_are() -> None:
    made = tables()
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    classes = [made._load(name) for name in re.findall(r"<!-- fields (\S+) -->", pages)]
    fields = {f"{cls.__name__}.{row[0]}" for cls in classes for row in made.fields_of(cls)}
    assert [name for name in made.MEANINGS if "." in name and name not in fields] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name
)
def test_its_python_code_runs(page: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRT_MODEL", "openai:gpt-4.1")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.chdir(tmp_path)
    server.answer = scripted_chat.answer
    text = page.read_text(encoding="utf-8")
    module = ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines = text.count("\n", 0, block.start(1))
        code = compile("\n" * lines + block[1], str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(code, vars(module))
        if iscoroutine(waiting):
            asyncio.run(asyncio.wait_for(waiting, 20))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_error_stands_in_the_tree() -> None:
    tree = (ROOT / "docs" / "responses.md").read_text(encoding="utf-8")

    def names(cls: type[Any]) -> list[str]:
        own = [cls.__name__] if cls.__module__ == "agentrt.errors" else []
        return [*own, *(name for child in cls.__subclasses__() for name in names(child))]

    assert [name for name in names(AgentRTError) if not re.search(rf"\b{name}\b", tree)] == []


def test_the_map_names_what_there_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.search(r"```\nagentrt/\n(.*?)```", page, re.DOTALL)
    assert listed is not None
    names = set(re.findall(r"^  ([\w.]+/?(?: [\w.]+/?)*)", listed[1], re.MULTILINE))
    said = {name.rstrip("/") for line in names for name in line.split()}
    package = ROOT / "agentrt"
    there = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - said == set()
