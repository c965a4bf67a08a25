{#- The funnels of the var `funnels`, see dbt_project.yml; one that nobody enters where there is none. -#}
{% macro funnels() %}
    {{ return(var('funnels', []) or [{'name': 'none', 'steps': [{'name': 'none', 'page': none}]}]) }}
{% endmacro %}


{#- All steps of all funnels: funnel, number from 1, name, and the condition that an event of the step meets. -#}
{% macro funnel_steps() %}
    {%- set found = [] -%}
    {%- for funnel in funnels() -%}
        {%- for step in funnel.steps -%}
            {%- if step.page -%}
                {%- set condition = "event_type in ('navigate', 'pageview', 'load') and page = "
                    ~ string_literal(escape_single_quotes(step.page)) -%}
            {%- elif step.custom_event -%}
                {%- set condition = "event_type = 'custom' and event_custom_name = "
                    ~ string_literal(escape_single_quotes(step.custom_event)) -%}
            {%- elif step.click -%}
                {%- set condition = "event_type = 'click' and event_target_text = "
                    ~ string_literal(escape_single_quotes(step.click)) -%}
            {%- elif funnel.name == 'none' -%}
                {%- set condition = '1 = 0' -%}
            {%- else -%}
                {{ exceptions.raise_compiler_error(
                    "Step '" ~ step.name ~ "' of the funnel '" ~ funnel.name ~ "' says none of page, custom_event, click."
                ) }}
            {%- endif -%}
            {%- do found.append(
                {'funnel': funnel.name, 'number': loop.index, 'name': step.name, 'condition': condition}
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{% macro longest_funnel() %}
    {{ return(funnel_steps() | map(attribute='number') | max) }}
{% endmacro %}
