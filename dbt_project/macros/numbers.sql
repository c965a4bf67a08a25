{#- Seconds as milliseconds: a sum of whole numbers is the same in whatever order they come. -#}
{% macro whole_ms(seconds) %}cast(round({{ seconds }} * 1000) as {{ type_bigint() }}){% endmacro %}
