with events as (

    {{ session_events(events=ref('stg_fullstory__events'), sessions=ref('sessions')) }}

),

touched as (

    select
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,
        event_id,
        event_type,
        event_start_at,
        window_start,
        nullif(page_device, '') as device,
        {{ target_element('event_target_selector') }} as element,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page,
        coalesce(
            {{ form_of('event_target_selector') }},
            case when event_type = 'abandon' then {{ target_element('event_target_selector') }} end,
            'no form'
        ) as form,
        -- The order within a form: by time, then as everywhere.
        cast(event_start_at as {{ type_string() }}) || event_id as moment
    from events
    where
        page_instance_key is not null
        and (
            event_type in ('change', 'abandon')
            -- Most events are clicks, and few of them in a form.
            or (event_type = 'click' and event_target_selector like '%form%')
        )

),

filled as (

    select
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,
        form,
        min_by(page, moment) as page,
        max(device) as device,
        min_by(element, case when event_type = 'change' then moment end) as first_field,
        max_by(element, case when event_type = 'change' then moment end) as last_field,
        count(case when event_type = 'change' then 1 end) as n_changes,
        count(distinct case when event_type = 'change' then element end) as n_fields,
        count(case when event_type = 'abandon' then 1 end) as n_abandons,
        min(case when event_type = 'change' then event_start_at end) as first_change_at,
        max(case when event_type = 'change' then event_start_at end) as last_change_at,
        max(case when event_type = 'abandon' then event_start_at end) as abandoned_at,
        max(
            case
                when
                    event_type = 'click'
                    and form <> 'no form'
                    and (element like 'button%' or element like 'input%type=submit%')
                    then event_start_at
            end
        ) as last_button_at,
        min(case when event_type <> 'click' then event_start_at end) as started_at,
        min(window_start) as first_window_start,
        max(window_start) as last_window_start
    from touched
    group by session_key, page_instance_key, user_id, session_id, page_id, form

),

final as (

    select
        page_instance_key || ':' || form as form_key,
        page_instance_key,
        session_key,
        user_id,
        session_id,
        page_id,

        form,
        page,
        device,
        first_field,
        last_field,
        {{ replay_url('session_key') | trim }} as replay_url,

        n_changes,
        n_fields,
        n_abandons > 0 as is_abandoned,
        n_abandons = 0 and coalesce(last_button_at >= last_change_at, false) as is_submitted,
        {{ datediff('first_change_at', 'last_change_at', 'millisecond') }} / 1000.0 as filling_s,

        started_at,
        first_change_at,
        last_change_at,
        abandoned_at,
        first_window_start,
        last_window_start
    from filled
    -- Clicks alone fill in nothing.
    where n_changes + n_abandons > 0

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by first_window_start, session_key, form_key
