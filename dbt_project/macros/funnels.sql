{#- The funnels of the var `funnels`, see dbt_project.yml; one that nobody enters where there is none. -#}
{% macro funnels() %}
    {{ return(var('funnels', []) or [{'name': 'none', 'steps': [{'name': 'none', 'page': none}]}]) }}
{% endmacro %}


{#-
    All steps of all funnels: funnel, number from 1, name, and the condition that an event of the step meets. What a step
    says is asked for all at once: a click on a page is both.
-#}
{% macro funnel_steps() %}
    {%- set found = [] -%}
    {%- for funnel in funnels() -%}
        {%- for step in funnel.steps -%}
            {%- set conditions = [] -%}
            {%- if step.event -%}
                {%- do conditions.append('event_type = ' ~ text_list([step.event])) -%}
            {%- elif step.custom_event -%}
                {%- do conditions.append("event_type = 'custom' and event_custom_name = " ~ text_list([step.custom_event])) -%}
            {%- elif step.click -%}
                {%- do conditions.append("event_type = 'click' and event_target_text = " ~ text_list([step.click])) -%}
            {%- elif step.page -%}
                {%- do conditions.append("event_type in ('navigate', 'pageview', 'load')") -%}
            {%- elif funnel.name == 'none' -%}
                {%- do conditions.append('1 = 0') -%}
            {%- else -%}
                {{ exceptions.raise_compiler_error(
                    "Step '" ~ step.name ~ "' of the funnel '" ~ funnel.name
                    ~ "' says none of page, event, custom_event, click."
                ) }}
            {%- endif -%}
            {%- if step.page -%}
                {%- do conditions.append('page = ' ~ text_list([step.page])) -%}
            {%- endif -%}
            {%- do found.append({
                'funnel': funnel.name, 'number': loop.index, 'name': step.name, 'condition': conditions | join(' and ')
            }) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The types of event that a step of a funnel can be, as a list for `in (…)`. -#}
{% macro funnel_event_types() %}
    {%- set types = ['navigate', 'pageview', 'load', 'custom', 'click'] -%}
    {%- for funnel in funnels() -%}
        {%- for step in funnel.steps if step.event and step.event not in types -%}
            {%- do types.append(step.event) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(text_list(types)) }}
{% endmacro %}


{% macro longest_funnel() %}
    {{ return(funnel_steps() | map(attribute='number') | max) }}
{% endmacro %}
