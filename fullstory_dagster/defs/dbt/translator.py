"""dbt's nodes as Dagster's assets: keys, groups, descriptions, automation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from fullstory_dagster.defs.automation import follow_events
from fullstory_dagster.defs.dbt.lineage import Sources
from fullstory_dagster.defs.dbt.parsed import PROJECT_DIR
from fullstory_dagster.defs.dbt.promises import promise_of
from fullstory_dagster.defs.metadata import documented_in
from fullstory_dagster.defs.names import EVENTS, GROUP_MARTS, GROUP_STAGING, asset_key


class ModelTranslator(DagsterDbtTranslator):
    """Models are ``[schema, model]``; every source is the events asset, of which the load log is a part."""

    def __init__(self, schema: str, sources: Sources | None = None) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))
        self._schema = schema
        self._sources = sources or {}

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """See the class."""
        is_source = dbt_resource_props["resource_type"] == "source"
        return asset_key(self._schema, EVENTS if is_source else dbt_resource_props["name"])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """With the columns' lineage, and the file that says it.

        Without the arrows from events to models that read it through staging: those only look at its load log.
        """
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id in manifest["nodes"]:
            spec = spec.merge_attributes(metadata=self._metadata(manifest["nodes"][unique_id]))
        if spec.group_name == GROUP_STAGING:
            return spec
        events = asset_key(self._schema, EVENTS)
        return spec.replace_attributes(deps=[dep for dep in spec.deps if dep.asset_key != events])

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Mapping[str, Any],
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        """With a sentence of what the test promises."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(description=promise_of(manifest["nodes"][unique_id]))

    def _metadata(self, node: Mapping[str, Any]) -> dict[str, Any]:
        path = node["original_file_path"]
        references = [
            dg.LocalFileCodeReference(file_path=str(PROJECT_DIR / path), label=Path(path).name),
            *documented_in("analytics.md")["dagster/code_references"].code_references,
        ]
        opened = dg.CodeReferencesMetadataValue(code_references=references)
        metadata: dict[str, Any] = {"dagster/code_references": opened}
        if traced := self._sources.get(node["name"]):
            deps = {
                column: [dg.TableColumnDep(asset_key(self._schema, table), name) for table, name in made_of]
                for column, made_of in traced.items()
            }
            metadata["dagster/column_lineage"] = dg.TableColumnLineage(deps)
        return metadata

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Staging by itself; what is in between goes with the marts, which it stands among."""
        return GROUP_STAGING if "staging" in dbt_resource_props.get("fqn", ()) else GROUP_MARTS

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The description alone; the SQL is a click away in the code and would be shown as raw Jinja."""
        return str(dbt_resource_props.get("description", ""))

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any]:
        """Models follow what they are made from."""
        return follow_events()
