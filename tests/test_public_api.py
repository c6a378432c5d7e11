"""The public names: they exist, they are documented, and there are few of them."""

import ast
import inspect
from pathlib import Path

import pytest

import tapeworks
import tapeworks.errors

PACKAGE = Path(tapeworks.__file__).parent


@pytest.mark.parametrize("name", tapeworks.__all__)
def test_public_name_exists_and_is_documented(name: str):
    # What `__all__` promises can be imported and says what it is.
    value = getattr(tapeworks, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value), name


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
