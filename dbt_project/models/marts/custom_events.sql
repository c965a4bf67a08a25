{# The contract names the columns that are always there. -#}
{{ config(contract={'enforced': not custom_event_columns()}) }}

with events as (

    {{ session_events(
        events=ref('stg_fullstory__events'),
        sessions=ref('sessions'),
        first_window='window_start',
        last_window='window_start'
    ) }}

),

final as (

    select
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,

        nullif(event_custom_name, '') as event_name,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page,
        custom_vars,
        {%- for column in custom_event_columns() %}
        {{ json_variable('custom_vars', column.variable, column.type) }} as {{ column.name }},
        {%- endfor %}

        event_start_at as happened_at,
        window_start
    from events
    where event_type = 'custom'

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by window_start, session_key, event_id
