{% test starts_before(model, column_name, end_column) %}
    {#- Rows that end before they begin. -#}
    select
        {{ column_name }},
        {{ end_column }}
    from {{ model }}
    where {{ column_name }} > {{ end_column }}
{% endtest %}
