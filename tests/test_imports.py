"""Imports point one way (docs/architecture.md), and `import agentrt` stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentrt

PACKAGE = Path(agentrt.__file__).parent
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

DATA, PORTS, ENGINE, ADAPTERS, AGENT, TEAM, WORKFLOW, RUNTIME, EDGE = range(9)

# The longest name that a module's name begins with says its level; a package's own file is `package.__init__`, which
# everything below it imports. A new module that no name covers fails the test: put it where it belongs.
LEVELS = {
    "__init__": DATA,
    "_options": DATA,
    "_sync": DATA,
    "_threads": DATA,
    "errors": DATA,
    "media": DATA,
    "memory.__init__": DATA,
    "models.__init__": DATA,
    "models.message": DATA,
    "run.__init__": DATA,
    "run.context": DATA,
    "run.decisions": DATA,
    "run.encoding": DATA,
    "run.events": DATA,
    "run.limits": DATA,
    "run.response": DATA,
    "run.speakers": DATA,
    "storage.__init__": DATA,
    "storage.codec": DATA,
    "storage.merge": DATA,
    "tools.results": DATA,
    "utils": DATA,
    "memory.base": PORTS,
    "models._": PORTS,
    "models.base": PORTS,
    "storage._": PORTS,
    "storage.base": PORTS,
    "tools": PORTS,
    "run": ENGINE,
    "memory.db": ADAPTERS,
    "models": ADAPTERS,
    "storage": ADAPTERS,
    "agent": AGENT,
    "memory": AGENT,
    "team": TEAM,
    "sessions": ENGINE,
    "workflow": WORKFLOW,
    "runtime": RUNTIME,
    "cli": EDGE,
    "evals": EDGE,
    "server": EDGE,
    "testing": EDGE,
}

SHORTHANDS = {("agent.agent", "cli.chat")}  # `agent.cli_app()` is a way into the terminal, looked up when it is called
PRESETS = {f"models.{name}" for name in ("azure", "deepseek", "groq", "llama_cpp", "ollama", "openrouter", "vllm")}
SPOKEN = "models.openai"  # what the presets speak
REGISTRY = "models._registry"  # the one place that turns a name such as "openai:gpt-4.1" into an adapter


def level_of(module: str) -> int:
    """The level of a module, such as `models.base`."""
    homes = [name for name in LEVELS if module == name or module.startswith(name if name[-1] == "_" else f"{name}.")]
    if not homes:
        raise AssertionError(f"agentrt.{module} has no level in {Path(__file__).name}")
    return LEVELS[max(homes, key=len)]


def is_allowed(importer: str, imported: str) -> bool:
    """Everything may look down; an adapter sees data, ports and its own package; the engine sees no adapter."""
    if (importer, imported) in SHORTHANDS:
        return True
    if importer in PRESETS and imported.startswith(f"{SPOKEN}."):
        return True
    if importer == REGISTRY:
        return level_of(imported) in (DATA, PORTS, ADAPTERS)
    if level_of(importer) != ADAPTERS:
        return level_of(imported) <= level_of(importer)
    return level_of(imported) <= PORTS or importer.split(".")[:2] == imported.split(".")[:2]


def imports(module: str, source: str) -> Iterator[str]:
    """The modules of agentrt that a source imports anywhere but under `if TYPE_CHECKING:`."""
    package = ["agentrt", *module.split(".")][:-1]
    for node in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "agentrt":
                yield module_of(name)


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from runtime_nodes(other)
        else:
            yield child
            yield from runtime_nodes(child)


def module_of(name: str) -> str:
    """The module behind a dotted name: `agentrt.media.Image` is `media`, `agentrt.Image` too."""
    parts = name.split(".")[1:]
    if len(parts) == 1 and parts[0] in agentrt._HOMES:
        parts = agentrt._HOMES[parts[0]].split(".")[1:]
    while parts:
        if ".".join(parts) in MODULES:
            return ".".join(parts)
        if ".".join([*parts, "__init__"]) in MODULES:
            return ".".join([*parts, "__init__"])
        parts.pop()
    return "__init__"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    targets = set(imports(module, MODULES[module].read_text()))
    wrong = sorted(target for target in targets if not is_allowed(module, target))
    assert not wrong, f"agentrt.{module} must not import {', '.join(f'agentrt.{target}' for target in wrong)}"


@pytest.mark.parametrize(
    ("importer", "source", "allowed"),
    [
        ("run.loop", "from agentrt.models.base import Model", True),
        ("run.loop", "from agentrt.models.openai import OpenAIChat", False),
        ("run.loop", "def f():\n    import agentrt.models.openai", False),
        ("models.base", "from agentrt import Agent", False),
        ("models.base", "from ..run import loop", False),
        ("models.base", "from agentrt.run.response import RunResponse", True),
        ("models.openai.__init__", "from ._wire import body", True),
        ("models.openai.__init__", "from agentrt.models.anthropic import Claude", False),
        ("models.groq", "from agentrt.models.openai.like import OpenAILike", True),
        ("models.groq", "from agentrt.models.anthropic import Claude", False),
        ("models._registry", "def f():\n    from agentrt.models.openai import OpenAIChat", True),
        ("models._http", "def f():\n    from agentrt.models.openai import OpenAIChat", False),
        ("errors", "if TYPE_CHECKING:\n    from agentrt.agent import Agent", True),
        ("errors", "if TYPE_CHECKING:\n    pass\nelse:\n    from agentrt.agent import Agent", False),
        ("cli.__init__", "from agentrt import Agent, __version__", True),
    ],
)
def test_the_check_tells_a_good_arrow_from_a_bad_one(
    importer: str, source: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("agent.__init__", "models.anthropic.__init__", "models.openai._wire", "run.loop"):
        monkeypatch.setitem(MODULES, module, PACKAGE)
    assert all(is_allowed(importer, target) for target in imports(importer, source)) is allowed


def test_a_module_without_a_level_is_found_out() -> None:
    with pytest.raises(AssertionError, match=r"agentrt\.novelty has no level"):
        level_of("novelty")


def loaded_by(statements: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after these statements."""
    script = f"{statements}\nimport sys; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=30, check=True
    )
    return set(done.stdout.split())


def test_importing_an_agent_and_its_model_loads_no_sdk() -> None:
    loaded = loaded_by("import agentrt\nfrom agentrt.agent import Agent\nfrom agentrt.models.openai import OpenAIChat")
    assert "agentrt" in loaded
    assert not loaded & {
        "anthropic", "google", "numpy", "openai", "pandas", "rich", "structlog", "typer", "xllamacpp"
    }  # fmt: skip


def test_importing_agentrt_loads_nothing_but_the_standard_library() -> None:
    loaded = loaded_by("import agentrt")
    bare = loaded_by("")
    assert not loaded - bare - set(sys.stdlib_module_names) - {"agentrt"}


def test_each_public_name_comes_from_its_module() -> None:
    assert set(agentrt.__all__) == {*agentrt._HOMES, "__version__"}
    assert set(agentrt.__all__) <= set(dir(agentrt))
    for name, home in agentrt._HOMES.items():
        assert getattr(agentrt, name) is getattr(sys.modules[home], name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        agentrt.Agnet  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]  the point of the test
