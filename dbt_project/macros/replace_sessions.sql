{% macro get_incremental_replace_sessions_sql(arg_dict) %}
    {#-
        Incremental strategy: the sessions that were rebuilt replace what the target had of them.

        Rows held for a pending window go first, also those of sessions that came to nothing (a window loaded again
        with fewer rows); then what other windows hold of the rebuilt sessions; then the new rows come in. All three
        run in the model's transaction, before its mark is written.
    -#}
    {%- set target_relation = arg_dict['target_relation'] -%}
    {%- set rebuilt = arg_dict['temp_relation'] -%}
    {%- set columns = arg_dict['dest_columns'] | map(attribute='name') | list -%}
    {%- set names = get_quoted_csv(columns) -%}
    {%- set is_windowed_by_row = 'window_start' in columns -%}
    {%- set first_window = 'window_start' if is_windowed_by_row else 'first_window_start' -%}
    {%- set last_window = 'window_start' if is_windowed_by_row else 'last_window_start' -%}

    delete from {{ target_relation }}
    where {{ is_held_for('(' ~ pending_windows() ~ ')', first_window, last_window) }};

    delete from {{ target_relation }}
    where
        {{ last_window }} >= (select coalesce(min({{ first_window }}), {{ end_of_time() }}) from {{ rebuilt }})
        and {{ first_window }} <= (select max({{ last_window }}) from {{ rebuilt }})
        and session_key in (select session_key from {{ rebuilt }});

    insert into {{ target_relation }} ({{ names }})
    select {{ names }} from {{ rebuilt }};
{% endmacro %}
