{% macro event_order() %}
    {#-
        The order of a session's events, total and the same in every build. Of events at one instant the page's own
        come first (navigate, then load); the id decides between twins.
    -#}
    event_start_at,
    page_start_at nulls last,
    case event_type when 'navigate' then 0 when 'pageview' then 1 when 'load' then 2 else 3 end,
    event_id
{%- endmacro %}


{% macro replay_url(session_key) %}
    {#- NULL without FULLSTORY_ORG_ID: a link that leads nowhere helps nobody. -#}
    {%- set org_id = env_var('FULLSTORY_ORG_ID', '') -%}
    {%- if org_id -%}
    {%- set base = env_var('FULLSTORY_APP_URL', 'https://app.fullstory.com').rstrip('/') ~ '/ui/' ~ org_id ~ '/session/' -%}
    {{ string_literal(escape_single_quotes(base)) }} || {{ session_key }}
    {%- else -%}
    cast(null as {{ type_string() }})
    {%- endif -%}
{%- endmacro %}
