{#-
    Pages under one name: what a person calls a page has many URLs, with ids, queries and the like in them.

    The first rule of the var `page_rules` that fits names the page; see dbt_project.yml. Without one it is the path,
    with ids folded and without query or slash at its end; a fragment that is a route (`#/cart`) belongs to it. In an app
    it is the view.
-#}
{% macro normalized_page(url, view_name='null') %}
    {%- set path = "coalesce(" ~ url_path(url) ~ ", '/')" -%}
    {%- set route = "nullif(split_part(" ~ url_fragment(url) ~ ", '?', 1), '')" -%}
    case
        {%- for rule in var('page_rules', []) %}
        when {{ url_host(url) }} is not null
            {%- if rule.host is defined %}
            and {{ regexp_matches(url_host(url), rule.host) }}
            {%- endif %}
            and {{ regexp_matches(path, rule.path) }}
            then {{ string_literal(escape_single_quotes(rule.page)) }}
        {%- endfor %}
        when {{ url_host(url) }} is not null
            then {{ folded_path(path) }}
                || case when {{ route }} like '/%' then '#' || {{ folded_path(route) }} else '' end
        else {{ view_name }}
    end
{%- endmacro %}


{#-
    A path with `:id` in the place of ids: numbers, UUIDs, hexadecimal texts of eight characters or more, and whatever
    has five digits in a row. Twice, because the slash between two ids belongs to the first.
-#}
{% macro folded_path(path) %}
    {%- set id = '/([0-9]+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[^/]*[0-9]{5}[^/]*)(/|$)' -%}
    {%- set trimmed = regexp_replace_all(path, '(.)/+$', '\\1') -%}
    {{ return(regexp_replace_all(regexp_replace_all(trimmed, id, '/:id\\3'), id, '/:id\\3')) }}
{% endmacro %}
