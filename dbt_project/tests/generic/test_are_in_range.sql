{% test are_in_range(model, columns) %}
    {#-
        Rows with a value outside of its bounds, [smallest, largest] by column; an absent value is no fault here. One
        test for all columns of a model: each test costs every build a query.
    -#}
    select *
    from {{ model }}
    where
        false
        {%- for column, bounds in columns.items() %}
        {%- if bounds[0] is not none %}
        or {{ column }} < {{ bounds[0] }}
        {%- endif %}
        {%- if bounds[1] is not none %}
        or {{ column }} > {{ bounds[1] }}
        {%- endif %}
        {%- endfor %}
{% endtest %}
