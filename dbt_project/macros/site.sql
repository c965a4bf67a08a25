{#- What dbt_project.yml says of the site, as the models ask for it. -#}

{% macro frustration_weight(kind) %}{{ return(var('frustration_weights')[kind]) }}{% endmacro %}

{% macro conversion_events() %}{{ return(text_list(var('conversion_events', []))) }}{% endmacro %}

{% macro custom_event_columns() %}{{ return(var('custom_event_columns', [])) }}{% endmacro %}
