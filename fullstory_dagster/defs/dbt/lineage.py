"""Which columns a column of a model is made of, read from the models' SQL once and kept beside the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

Sources = dict[str, dict[str, list[tuple[str, str]]]]
"""Column → the columns it is made of, each as the name of its model or source table and its own; by model."""


def column_sources(manifest: Mapping[str, Any], compiled: Mapping[str, str], dialect: str = "duckdb") -> Sources:
    """Trace every column of every model to columns of the models and tables it reads itself.

    Args:
        manifest: of dbt; columns are those of its descriptions, and where a model has fewer, of what it selects.
        compiled: SQL by the model's name.
        dialect: of the SQL.

    Returns:
        dict: a model whose SQL is not understood is left out, a column that is made of none has an empty list.
    """
    columns = _described(manifest)
    nodes = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    traced: Sources = {}
    for name in _upstream_first(manifest, nodes):
        try:
            found = _trace(compiled[name], columns, dialect)
        except Exception:  # noqa: S112
            # Whatever the parser makes of somebody's SQL: without lineage the model is shown and built all the same.
            continue
        traced[name] = found
        columns[name] = list(found)
    return traced


def _described(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    nodes = [*manifest["sources"].values(), *manifest["nodes"].values()]
    return {node.get("identifier") or node["name"]: list(node["columns"]) for node in nodes if node.get("columns")}


def _upstream_first(manifest: Mapping[str, Any], nodes: Mapping[str, Any]) -> list[str]:
    ids = {node["unique_id"]: name for name, node in nodes.items()}
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for parent in nodes[name]["depends_on"]["nodes"]:
            if parent in ids:
                visit(ids[parent])
        order.append(name)

    for name in sorted(nodes):
        visit(name)
    return order


def _trace(sql: str, columns: Mapping[str, list[str]], dialect: str) -> dict[str, list[tuple[str, str]]]:
    parsed = sqlglot.parse_one(sql, dialect=dialect)
    for table in parsed.find_all(exp.Table):
        # The names of catalog and schema are the account's; that of the table is the model's.
        table.set("db", None)
        table.set("catalog", None)
    schema: dict[str, object] = {name: dict.fromkeys(of, "varchar") for name, of in columns.items()}
    qualified = qualify(parsed, schema=schema, dialect=dialect, validate_qualify_columns=False, identify=False)
    scope = build_scope(qualified)
    if scope is None:
        return {}
    known: dict[tuple[int, str], frozenset[tuple[str, str]]] = {}
    # DuckDB does not tell cases apart, and the parser folds names; those that are shown are the tables' own.
    own = {(table, column.lower()): column for table, names in columns.items() for column in names}
    return {
        name: sorted((table, own.get((table, column), column)) for table, column in _of_output(scope, name, known))
        for name in _query(scope).named_selects
    }


def _of_output(
    scope: Scope, name: str, known: dict[tuple[int, str], frozenset[tuple[str, str]]]
) -> frozenset[tuple[str, str]]:
    """What an output column of a scope is made of, down to tables."""
    key = id(scope), name
    if key in known:
        return known[key]
    # A recursive part reads what is being traced: it adds nothing that the first part does not.
    known[key] = frozenset()
    found: frozenset[tuple[str, str]] = frozenset()
    if scope.set_operation_scopes:
        place = _query(scope).named_selects.index(name)
        for part in scope.set_operation_scopes:
            names = _query(part).named_selects
            if place < len(names):
                found |= _of_output(part, names[place], known)
    else:
        selected = next((select for select in _query(scope).selects if select.alias_or_name == name), None)
        if selected is not None:
            found = _of_expression(scope, selected, known)
    known[key] = found
    return found


def _of_expression(
    scope: Scope, expression: exp.Expr, known: dict[tuple[int, str], frozenset[tuple[str, str]]]
) -> frozenset[tuple[str, str]]:
    found: frozenset[tuple[str, str]] = frozenset()
    for column in expression.find_all(exp.Column):
        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            found |= {(source.name, column.name)}
        elif isinstance(source, Scope):
            found |= _of_output(source, column.name, known)
    return found


def _query(scope: Scope) -> exp.Query:
    return cast("exp.Query", scope.expression)
