"""The public names: they exist, they are documented, and there are few of them."""

import ast
import inspect
import os
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tapeworks
import tapeworks.errors
from tapeworks.flink.job import JAR

PACKAGE = Path(tapeworks.__file__).parent
WRITES = "TAPEWORKS_WRITE" in os.environ
LISTED = Path(__file__).with_name("public_api.txt")


@pytest.mark.parametrize("name", tapeworks.__all__)
def test_public_name_exists_and_is_documented(name: str):
    # What `__all__` promises can be imported and says what it is.
    value = getattr(tapeworks, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value), name


def members(owner: type) -> Iterator[tuple[str, object]]:
    """Yields the public methods and properties of a class, inherited ones too."""
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        if not name.startswith("_"):
            yield name, value


def public_names() -> list[str]:
    """Returns all public names, and those of the parameters of what can be called."""
    lines = []
    for name in sorted(tapeworks.__all__):
        value = getattr(tapeworks, name)
        if inspect.isroutine(value):
            lines.append(f"{name}({parameters(value)})")
            continue
        lines.append(name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            for method, found in members(value):
                call = f"({parameters(found)})" if inspect.isroutine(found) else ""
                lines.append(f"{name}.{method}{call}")
    return lines


def parameters(value: Any) -> str:
    """Returns the names of parameters; behind a star those that are given by name alone."""
    found, is_keyword = [], False
    for name, parameter in inspect.signature(value).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            found.append("*")
            is_keyword = True
        if name != "self":
            found.append(name)
    return ", ".join(found)


def test_every_public_name_is_listed():
    # What users call is renamed or removed on purpose, or not at all.
    if WRITES:
        LISTED.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
    expected = LISTED.read_text(encoding="utf-8").splitlines()
    told = "if it is meant: TAPEWORKS_WRITE=1 python -m pytest tests/test_public_api.py"
    assert public_names() == expected, told


def test_every_public_signature_is_whole():
    # Each parameter and each answer says its type, as editors show it, and each method what it is.
    for name in tapeworks.__all__:
        owner = getattr(tapeworks, name)
        if not inspect.isclass(owner) or issubclass(owner, Exception):
            continue
        for method, value in members(owner):
            assert inspect.getdoc(value), f"{name}.{method}"
            call = value.fget if isinstance(value, property) else value
            if not inspect.isroutine(call):
                continue
            signature = inspect.signature(call)
            bare = [
                each.name
                for each in signature.parameters.values()
                if each.annotation is each.empty and each.name != "self"
            ]
            assert not bare, f"{name}.{method}: {bare}"
            assert signature.return_annotation is not signature.empty, f"{name}.{method}"


def test_help_names_everything():
    # `help(tw)` has each public name, and the words for symbols and times instead of their types.
    told = pydoc.plain(pydoc.render_doc(tapeworks))
    for line in public_names():
        name = line.partition("(")[0].rpartition(".")[2]
        # As what is defined there, and not within another word.
        is_told = re.search(rf"(^|[ .]){re.escape(name)}\b *([(=:]|$)", told, re.MULTILINE)
        assert is_told or name == "__version__", line
    assert "start: 'TimeLike | None' = None" in told
    assert "datetime64" not in told.partition("CLASSES")[2]


def test_unknown_name_is_an_attribute_error():
    # The lazy front door must answer `hasattr` like any module.
    assert not hasattr(tapeworks, "nothing_of_that_name")
    assert "TapeworksError" in dir(tapeworks)


def test_version_is_the_one_of_the_project():
    # One number in three places: package, pyproject and Cargo.
    root = PACKAGE.parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not in a checkout")
    assert f'version = "{tapeworks.__version__}"' in (root / "pyproject.toml").read_text()
    assert f'version = "{tapeworks.__version__}"' in (root / "Cargo.toml").read_text()
    # The jar of the Flink job is named after it where it is made, and where it is looked for.
    pom = (root / "flink" / "pom.xml").read_text()
    assert f"<version>{tapeworks.__version__}</version>\n  <packaging>jar</packaging>" in pom
    assert f"tapeworks-flink-{tapeworks.__version__}.jar" == JAR
    assert f"flink/target/{JAR}\n" in (root / "scripts" / "build").read_text()


def test_every_public_definition_has_a_docstring():
    # Modules, classes and functions of the package whose names do not start with an underscore;
    # methods too, but for those that only fill in a documented base.
    mute = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            mute.append(f"{path.name}: module")
        for node in tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                mute.append(f"{path.name}:{node.lineno}: {node.name}")
            if isinstance(node, ast.ClassDef) and not node.bases:
                mute += [
                    f"{path.name}:{method.lineno}: {node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not method.name.startswith("_")
                    and not ast.get_docstring(method)
                ]
    assert not mute, mute


def test_error_tree_is_as_drawn():
    # The drawing at the top of errors.py names every class, at the right depth.
    drawn = {}
    for line in (tapeworks.errors.__doc__ or "").splitlines():
        stripped = line.strip()
        if stripped and stripped.split()[0].endswith(("Error", "Unavailable", "Rejected")):
            drawn[stripped.split()[0]] = (len(line) - len(line.lstrip())) // 2
    root = drawn["TapeworksError"]
    for name, depth in drawn.items():
        chain = [cls for cls in getattr(tapeworks.errors, name).__mro__ if cls.__name__ in drawn]
        assert len(chain) - 1 == depth - root, name
    classes = {
        name
        for name, value in vars(tapeworks.errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert classes == set(drawn)
