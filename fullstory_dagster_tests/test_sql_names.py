"""Every name that reaches SQL is quoted by ``store.tables``: read from the package's own source.

A statement is safe when it is made of text in the source and of what ``quote``, ``quote_text`` or ``table`` gave, also
by way of variables and of functions of the same module. Values go by parameter and are no business of this test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fullstory_dagster

PACKAGE = Path(fullstory_dagster.__file__).parent

TAKES_SQL = {"execute": 0, "executemany": 0, "query": 0, "sql": 0, "_loads": 1}
"""Methods, and which of their arguments is SQL."""
QUOTING = {"quote", "quote_text", "table"}

TRUSTED = {
    # Parameters of methods in TAKES_SQL: whoever calls them is looked at in their place.
    ("store/warehouse.py", "sql"),
    ("store/warehouse.py", "clause"),
    # Types come from the field list and the columns in store/tables.py, which are text in the source.
    ("store/tables.py", "column_type"),
    ("store/upgrade.py", "column_type.removesuffix(' NOT NULL')"),
    ("store/upgrade.py", "field.duckdb_type"),
    # Put together there from quoted columns and this alias.
    ("store/erasure.py", "_is_theirs('e')"),
    # Steps written out in the module, with the lake's alias and a number of seconds.
    ("store/lake_maintenance.py", "sql"),
    # One of two calls, written out in the module.
    ("store/named_locks.py", "sql.encode()"),
}
"""What is safe for a reason that this test cannot see: file, and expression."""


class Module:
    """One source file, and which expressions of it are safe in SQL."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.tree = ast.parse(source)
        self.functions = {n.name: n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef)}

    def unsafe(self) -> list[str]:
        """What is not safe in the statements of the file: the function, and the expression."""
        found = []
        for function, scope in [("", self.tree), *self.functions.items()]:
            for call in own_nodes(scope):
                if sql := sql_of(call):
                    found += [f"{self.path}: {function}: {what}" for what in self._unsafe(sql, function, ())]
        return sorted(set(found))

    def _unsafe(self, node: ast.expr, function: str, seen: tuple[str, ...]) -> Iterator[str]:
        text = ast.unparse(node)
        if (self.path, text) in TRUSTED:
            return
        parts: list[ast.expr] | None = None
        if isinstance(node, ast.Constant):
            parts = []
        elif isinstance(node, ast.JoinedStr):
            parts = [value.value if isinstance(value, ast.FormattedValue) else value for value in node.values]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [node.left, node.right]
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp):
            parts = list(node.values)
        elif isinstance(node, ast.Tuple | ast.List):
            parts = [item.value if isinstance(item, ast.Starred) else item for item in node.elts]
        elif isinstance(node, ast.GeneratorExp | ast.ListComp):
            parts = [node.elt]
        elif isinstance(node, ast.Call):
            parts = self._parts_of_call(node)
        elif isinstance(node, ast.Name) and node.id not in seen:
            seen = (*seen, node.id)
            parts = self._assigned(node.id, function)
        if parts is None:
            yield text
        for part in parts or ():
            yield from self._unsafe(part, function, seen)

    def _parts_of_call(self, call: ast.Call) -> list[ast.expr] | None:
        called = call.func
        if isinstance(called, ast.Attribute):
            is_join = called.attr == "join" and isinstance(called.value, ast.Constant)
            return list(call.args) if is_join else None
        if not isinstance(called, ast.Name):
            return None
        if called.id in QUOTING:
            return []
        if called.id == "map" and isinstance(call.args[0], ast.Name):
            return [] if call.args[0].id in QUOTING else None
        return None

    def _assigned(self, name: str, function: str) -> list[ast.expr] | None:
        """Everything the name is bound to in its function, or in the module; None if that can't be told."""
        for scope in filter(None, (self.functions.get(function), self.tree)):
            values: list[ast.expr] = []
            for node in own_nodes(scope):
                if isinstance(node, ast.Assign):
                    values += bound(node.targets, node.value, name)
                elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
                    values += bound([node.target], node.value, name)
                elif isinstance(node, ast.For) and names(node.target) & {name}:
                    return None
                elif isinstance(node, ast.comprehension) and names(node.target) & {name}:
                    return [node.iter] if isinstance(node.iter, ast.Tuple | ast.List) else None
            if values:
                return values
        return None


def sql_of(node: ast.AST) -> ast.expr | None:
    """The statement that a call sends to a database, None if it sends none."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    position = TAKES_SQL.get(node.func.attr)
    return node.args[position] if position is not None and len(node.args) > position else None


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function or module, without those of the functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from own_nodes(child)


def names(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def bound(targets: list[ast.expr], value: ast.expr, name: str) -> list[ast.expr]:
    """The values that an assignment binds to a name."""
    values: list[ast.expr] = []
    for target in targets:
        if isinstance(target, ast.Name) and target.id == name:
            values.append(value)
        elif isinstance(target, ast.Tuple) and name in names(target):
            if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
                values += [
                    v for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name) and t.id == name
                ]
            else:
                values.append(value)
    return values


def modules() -> dict[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def test_every_name_in_a_statement_of_the_package_is_quoted() -> None:
    found = [line for path, source in modules().items() for line in Module(path, source).unsafe()]
    assert found == []


def test_the_package_s_statements_are_found_at_all() -> None:
    statements = {
        path: [node for node in ast.walk(ast.parse(source)) if sql_of(node)] for path, source in modules().items()
    }
    assert len(statements["store/warehouse.py"]) >= 10
    assert len(statements["demo.py"]) >= 2


@pytest.mark.parametrize(
    ("body", "unsafe"),
    [
        ('db.execute(f"DROP TABLE {name}")', ["name"]),
        ('db.execute("DROP TABLE " + name)', ["name"]),
        ('db.execute("DROP TABLE {}".format(name))', ["'DROP TABLE {}'.format(name)"]),
        ('db.execute("DROP TABLE %s" % name)', ["'DROP TABLE %s' % name"]),
        ('sql = f"DROP TABLE {name}"; db.execute(sql)', ["name"]),
        ('sql = "SELECT 1"; sql += name; db.execute(sql)', ["name"]),
        ('sql = "SELECT 1" if name else name; db.execute(sql)', ["name"]),
        ("db.execute(f\"SELECT {', '.join(names)}\")", ["names"]),
        ("db.execute(f\"SELECT {', '.join(n for n in names)}\")", ["n"]),
        ("db.execute(f\"SELECT {', '.join(map(str, names))}\")", ["map(str, names)"]),
        ('for n in names: db.execute(f"DROP TABLE {n}")', ["n"]),
        ('db.execute(f"DROP TABLE {quote(name)}")', []),
        ('events = table(name, "events"); db.execute(f"DROP TABLE {events}")', []),
        ('a, b = table(name, "a"), name; db.execute(f"FROM {a}"); db.execute(f"FROM {b}")', ["name"]),
        ('a, b = (table(name, x) for x in "ab"); db.execute(f"FROM {a}, {b}")', []),
        ("db.execute(f\"SELECT {', '.join(map(quote, names))} WHERE a = ?\", [name])", []),
        ("db.execute(f\"SELECT {', '.join(f'{quote(n)} AS x' for n in names)}\")", []),
        ('db.query("SELECT 1" + " FROM t")', []),
    ],
)
def test_an_unquoted_name_is_found_however_it_gets_there(body: str, unsafe: list[str]) -> None:
    lines = "\n".join(f"    {line}" for line in ([body] if body.startswith("for") else body.split("; ")))
    found = Module("x.py", f"def run(db, name, names):\n{lines}\n").unsafe()
    assert [line.removeprefix("x.py: run: ") for line in found] == unsafe
