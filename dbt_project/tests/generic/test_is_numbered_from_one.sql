{% test is_numbered_from_one(model, column_name, group_column) %}
    {#- Groups whose numbers are not 1, 2, 3, … without a gap and without a repeat. -#}
    select {{ group_column }}
    from {{ model }}
    group by {{ group_column }}
    having
        min({{ column_name }}) <> 1
        or max({{ column_name }}) <> count(*)
        or count(distinct {{ column_name }}) <> count(*)
{% endtest %}
