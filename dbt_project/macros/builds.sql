{#
    What a model holds, and what it still owes.

    `_loads` has a row for each load of a window, numbered in the order of commits. `_builds` says up to which load a
    model holds everything. What lies between is pending, whether or not those windows are neighbours, and whatever
    happened to the run that should have built them.
#}

{% macro require_warehouse() %}
    {#- dbt's own message would be a catalog error somewhere inside the first view. -#}
    {%- if execute and flags.WHICH in ['run', 'build', 'test'] -%}
        {%- for name in ['events', '_loads', '_builds'] -%}
            {%- set table = source('fullstory', name) -%}
            {%- if adapter.get_relation(table.database, table.schema, table.identifier) is none -%}
                {{ exceptions.raise_compiler_error(
                    "Table " ~ table.schema ~ "." ~ name ~ " is missing in the warehouse " ~ table.database
                    ~ ": load a window first (fullstory-dagster sync), or correct FULLSTORY_WAREHOUSE or FULLSTORY_SCHEMA."
                ) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}


{% macro mark_models_never_built() %}
    {#-
        Mark 0 for every model that has no mark yet. A model that failed at its first build, was left out of a
        selection, or came with an upgrade would otherwise look as if it owed nothing.
    -#}
    {%- if execute and flags.WHICH in ['run', 'build'] -%}
        {%- set names = [] -%}
        {%- for node in graph.nodes.values() if has_mark(node) -%}
            {%- do names.append(node.alias) -%}
        {%- endfor -%}
        {%- if names %}
    insert into {{ source('fullstory', '_builds') }} (model, load_id, built_at)
    select
        models.name,
        0,
        {{ utc_now() }}
    from (values ('{{ names | sort | join("'), ('") }}')) as models (name)
    where models.name not in (select model from {{ source('fullstory', '_builds') }})
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro has_mark(node) %}
    {#- Views hold what they are made of, whatever that is: nothing is pending for them. -#}
    {{ return(node.config.incremental_strategy == 'replace_sessions' and node.config.materialized == 'incremental') }}
{% endmacro %}


{% macro raise_fence() %}
    {#-
        On a lake, where a lock can be lost: of two transactions that update this row beside each other only one is
        committed. Loads update it too.
    -#}
    {%- if config.get('materialized') == 'incremental'
        and env_var('FULLSTORY_WAREHOUSE', '').startswith(('ducklake:', 'md:')) -%}
    update {{ target.database }}.main._fullstory_writers set n_commits = n_commits + 1
    {%- endif -%}
{% endmacro %}


{% macro pin_snapshot() %}
    {#-
        As a pre-hook this opens the model's transaction, and its first read fixes what the transaction sees: a load
        that is committed meanwhile is neither read by the model nor claimed by its mark.
    -#}
    {%- if config.get('materialized') == 'incremental' -%}
    select max(load_id) from {{ source('fullstory', '_loads') }}
    {%- endif -%}
{% endmacro %}


{% macro model_name() %}
    {#- In a unit test `this` is called after the test. -#}
    {{ return((model.tested_node_unique_id or model.unique_id).split('.')[2]) }}
{% endmacro %}


{% macro upstream_models(name) %}
    {#- The models with marks that `name` is built from, straight or through views. -#}
    {%- set found = [] -%}
    {%- set queue = ['model.' ~ project_name ~ '.' ~ name] -%}
    {%- for _ in range(graph.nodes | length) if queue -%}
        {%- set node = graph.nodes[queue.pop()] -%}
        {%- for parent_id in node.depends_on.nodes if parent_id in graph.nodes -%}
            {%- set parent = graph.nodes[parent_id] -%}
            {%- if has_mark(parent) -%}
                {%- do found.append(parent.name) if parent.name not in found -%}
            {%- else -%}
                {%- do queue.append(parent_id) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found | sort) }}
{% endmacro %}


{% macro mark_of(name) %}
    (select coalesce(max(load_id), 0) from {{ source('fullstory', '_builds') }} where model = '{{ name }}')
{%- endmacro %}


{% macro buildable_load_id() %}
    {#- Up to which load this model can hold everything: no further than the models it reads. -#}
    {%- set upstreams = upstream_models(model_name()) if execute else [] -%}
    {%- set newest = "(select coalesce(max(load_id), 0) from " ~ source('fullstory', '_loads') ~ ")" -%}
    {%- if upstreams -%}
    least(
        {{ newest }}
        {%- for name in upstreams %},
        {{ mark_of(name) | trim }}
        {%- endfor %}
    )
    {%- else -%}
    {{ newest }}
    {%- endif -%}
{%- endmacro %}


{% macro pending_windows() %}
    select distinct window_start
    from {{ source('fullstory', '_loads') }}
    where
        load_id > {{ mark_of(model_name()) | trim }}
        and load_id <= {{ buildable_load_id() | trim }}
{%- endmacro %}


{% macro record_build() %}
    {#- As a post-hook: the mark of what the model now holds. A build that had nothing to do leaves no mark. -#}
    {%- if config.get('materialized') == 'incremental' -%}
    insert into {{ source('fullstory', '_builds') }} (model, load_id, built_at)
    select
        '{{ model_name() }}',
        {{ buildable_load_id() | trim }},
        {{ utc_now() }}
    where not exists (
        select 1
        from {{ source('fullstory', '_builds') }}
        where
            model = '{{ model_name() }}'
            and load_id >= {{ buildable_load_id() | trim }}
    )
    {%- endif -%}
{% endmacro %}


{% macro utc_now() %}{{ return(adapter.dispatch('utc_now')()) }}{% endmacro %}

{% macro default__utc_now() %}{{ return(current_timestamp()) }}{% endmacro %}

{#- A cast of now() would follow the session's time zone; the epoch does not. -#}
{% macro duckdb__utc_now() %}{{ return('make_timestamp(epoch_us(now()))') }}{% endmacro %}


{% macro get_where_subquery(relation) %}
    {#-
        What a data test of an incremental model looks at. In a build it is what the model holds of the windows it took
        in last, and where a row is an event, the whole sessions of these, so that a test costs what the window costs
        and not what the history does; `dbt test`, a full refresh and a first build look at everything. Overrides dbt's
        macro of this name, whose `where` still counts.
    -#}
    {%- set node = graph.nodes.get('model.' ~ project_name ~ '.' ~ relation.identifier) if execute -%}
    {%- if node and has_mark(node)
        and flags.WHICH == 'build' and not flags.FULL_REFRESH -%}
        {%- set where = config.get('where') -%}
        {%- set earliest, latest = built_window('min', node.name), built_window('max', node.name) -%}
        (
            select *
            from {{ relation }}
            where
                {%- if 'window_start' in node.columns %}
                {%- set touched = 'from ' ~ graph.nodes['model.' ~ project_name ~ '.sessions'].relation_name
                    ~ ' where last_window_start >= ' ~ earliest ~ ' and first_window_start <= ' ~ latest %}
                window_start >= (select min(first_window_start) {{ touched }})
                and window_start <= (select max(last_window_start) {{ touched }})
                and session_key in (select session_key {{ touched }})
                {%- else %}
                last_window_start >= {{ earliest }}
                and first_window_start <= {{ latest }}
                {%- endif %}
                {%- if where %}
                and ({{ where }})
                {%- endif %}
        ) as dbt_subquery
    {%- else -%}
        {{ return(default__get_where_subquery(relation)) }}
    {%- endif -%}
{% endmacro %}


{% macro built_window(which, name) %}
    {#- The earliest (min) or the latest (max) window that a model took in with its last build that had any. -#}
    {%- set source = 'source.' ~ project_name ~ '.fullstory.' -%}
    {%- set marks = graph.sources[source ~ '_builds'].relation_name ~ " where model = '" ~ name ~ "'" -%}
    {%- set newest = '(select max(load_id) from ' ~ marks ~ ')' -%}
    (
        select {{ which }}(window_start)
        from {{ graph.sources[source ~ '_loads'].relation_name }}
        where
            load_id <= {{ newest }}
            and load_id > (select coalesce(max(load_id), 0) from {{ marks }} and load_id < {{ newest }})
    )
{%- endmacro %}
