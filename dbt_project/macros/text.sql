{#- Text functions whose names or regular expressions differ between engines. -#}

{% macro regexp_group(text, pattern) %}{{ return(adapter.dispatch('regexp_group')(text, pattern)) }}{% endmacro %}

{#- The pattern's first group; NULL when it is empty or nothing matches. -#}
{% macro default__regexp_group(text, pattern) %}
    {{ return("nullif(regexp_substr(" ~ text ~ ", '" ~ pattern ~ "', 1, 1, 'e', 1), '')") }}
{% endmacro %}

{% macro duckdb__regexp_group(text, pattern) %}
    {{ return("nullif(regexp_extract(" ~ text ~ ", '" ~ pattern ~ "', 1), '')") }}
{% endmacro %}


{#- Runs of white space become one blank: a button's text comes with the line breaks of its markup. -#}
{% macro one_line(text) %}{{ return(adapter.dispatch('one_line')(text)) }}{% endmacro %}

{% macro default__one_line(text) %}
    {{ return("trim(regexp_replace(" ~ text ~ ", '[[:space:]]+', ' '))") }}
{% endmacro %}

{% macro duckdb__one_line(text) %}
    {{ return("trim(regexp_replace(" ~ text ~ ", '[[:space:]]+', ' ', 'g'))") }}
{% endmacro %}


{#-
    The last element of a CSS selector, with its classes and attributes. Legacy selectors write those apart and escape
    what is no letter or digit (`div input .form%2Dcontrol`); the two escapes that names are full of are undone.
-#}
{% macro target_element(selector) %}
    {%- set element = regexp_group(selector, '([A-Za-z][^ >]*(?: [.#=:][^ >]*)*) *$') -%}
    {{ return("replace(replace(replace(" ~ element ~ ", ' ', ''), '%2D', '-'), '%5F', '_')") }}
{% endmacro %}


{#- The parts of a URL; NULL where it has none. -#}
{% macro url_host(url) %}
    {{ return(regexp_group(url, '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)')) }}
{% endmacro %}

{% macro url_path(url) %}
    {{ return(regexp_group(url, '^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*(/[^?#]*)')) }}
{% endmacro %}

{% macro url_query(url) %}{{ return(regexp_group(url, '^[^?#]*[?]([^#]+)')) }}{% endmacro %}

{#- In a single-page application the fragment often is the page: `#/checkout`. -#}
{% macro url_fragment(url) %}{{ return(regexp_group(url, '#(.+)$')) }}{% endmacro %}


{#- A text as a sentence shows it: on one line, in quotes, cut after 80 characters; NULL when there is none. -#}
{% macro quoted(text) %}
    {%- set shown = one_line(text) -%}
    {{ return(
        "'“' || left(nullif(" ~ shown ~ ", ''), 80) || case when length(" ~ shown ~ ") > 80 then '…' else '' end || '”'"
    ) }}
{% endmacro %}


{#- dbt's safe_cast is a plain cast on DuckDB: one odd text would fail the build. -#}
{% macro number_or_null(text) %}{{ return(adapter.dispatch('number_or_null')(text)) }}{% endmacro %}

{% macro default__number_or_null(text) %}{{ return(safe_cast(text, 'double precision')) }}{% endmacro %}

{% macro duckdb__number_or_null(text) %}{{ return("try_cast(" ~ text ~ " as double)") }}{% endmacro %}


{% macro regexp_matches(text, pattern) %}{{ return(adapter.dispatch('regexp_matches')(text, pattern)) }}{% endmacro %}

{% macro default__regexp_matches(text, pattern) %}
    {{ return("regexp_like(" ~ text ~ ", '" ~ escape_single_quotes(pattern) ~ "')") }}
{% endmacro %}

{% macro duckdb__regexp_matches(text, pattern) %}
    {{ return("regexp_matches(" ~ text ~ ", '" ~ escape_single_quotes(pattern) ~ "')") }}
{% endmacro %}


{#- Every match, with groups as \1. -#}
{% macro regexp_replace_all(text, pattern, replacement) %}
    {{ return(adapter.dispatch('regexp_replace_all')(text, pattern, replacement)) }}
{% endmacro %}

{% macro default__regexp_replace_all(text, pattern, replacement) %}
    {{ return("regexp_replace(" ~ text ~ ", '" ~ pattern ~ "', '" ~ replacement ~ "')") }}
{% endmacro %}

{% macro duckdb__regexp_replace_all(text, pattern, replacement) %}
    {{ return("regexp_replace(" ~ text ~ ", '" ~ pattern ~ "', '" ~ replacement ~ "', 'g')") }}
{% endmacro %}


{#- A message without what differs each time it comes: numbers, and ids with digits in them. -#}
{% macro folded_message(text) %}
    {{ return(regexp_replace_all(one_line(text), '[0-9A-Fa-f-]*[0-9][0-9A-Fa-f-]*', '#')) }}
{% endmacro %}


{#- The custom variables of one kind, `user_` or `page_`, as a JSON object; NULL where there is none. -#}
{% macro json_variables(json, prefix) %}{{ return(adapter.dispatch('json_variables')(json, prefix)) }}{% endmacro %}

{% macro duckdb__json_variables(json, prefix) %}
    (
        select to_json(map_from_entries(list(row(variables.key, variables.value) order by variables.key)))
        from json_each({{ json }}) as variables
        where starts_with(variables.key, '{{ prefix }}')
    )
{%- endmacro %}


{#- A variable out of CustomVars as a type; NULL where it is absent or does not fit. Names hold dots, so they are quoted. -#}
{% macro json_variable(json, name, type) %}{{ return(adapter.dispatch('json_variable')(json, name, type)) }}{% endmacro %}

{% macro default__json_variable(json, name, type) %}
    {{ return(safe_cast("json_value(" ~ json ~ ", '$.\"" ~ name ~ "\"')", type)) }}
{% endmacro %}

{% macro duckdb__json_variable(json, name, type) %}
    {{ return("try_cast(json_extract_string(" ~ json ~ ", '$.\"" ~ name ~ "\"') as " ~ type ~ ")") }}
{% endmacro %}


{#- Texts as a list of literals, for `in (…)`; never empty. -#}
{% macro text_list(texts) %}
    {%- set literals = [] -%}
    {%- for text in texts -%}
        {%- do literals.append(string_literal(escape_single_quotes(text))) -%}
    {%- endfor -%}
    {{ return(literals | join(', ') or 'null') }}
{% endmacro %}
