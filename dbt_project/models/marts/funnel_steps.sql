with events as (

    {{ session_events(
        events=ref('stg_fullstory__events'),
        sessions=ref('sessions'),
        first_window='window_start',
        last_window='window_start'
    ) }}

),

placed as (

    select
        *,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page
    from events
    where event_type in ({{ funnel_event_types() }})

),

steps as (

    {% for step in funnel_steps() -%}
    select
        '{{ step.funnel }}' as funnel,
        {{ step.number }} as step_number,
        {{ string_literal(escape_single_quotes(step.name)) }} as step_name,
        placed.*
    from placed
    where {{ step.condition }}
    {% if not loop.last %}
    union all

    {% endif %}
    {%- endfor %}
),

final as (

    select
        funnel || ':' || cast(step_number as {{ type_string() }}) || ':' || event_id as step_key,
        funnel,
        step_number,
        step_name,
        event_id,
        session_key,
        user_id,
        session_id,
        nullif(page_device, '') as device,
        event_start_at as reached_at,
        window_start
    from steps

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by window_start, session_key, step_key
