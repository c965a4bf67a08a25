with events as (

    {{ session_events(events=ref('stg_fullstory__events'), sessions=ref('sessions')) }}

),

marked as (

    select
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,
        event_type,
        event_mod_frustrated,
        event_mod_dead,
        event_mod_error,
        event_start_at,
        window_start,
        page_device,
        nullif({{ one_line('event_target_text') }}, '') as element_text,
        nullif(event_target_selector, '') as element_selector,
        {{ target_element('event_target_selector') }} as element,
        nullif(page_name, '') as page_name,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page,
        row_number() over (
            partition by user_id, session_id
            order by {{ event_order() }}
        ) as mark_number
    from events
    where
        event_mod_frustrated > 0
        or event_mod_dead > 0
        or event_mod_error > 0
        or event_type in ('click_error', 'thrash', 'abandon')

),

rage_clicks as (

    -- The count runs from the first click of a burst to its last: where it does not grow, another burst has begun.
    select
        *,
        case
            when event_mod_frustrated > lag(event_mod_frustrated) over (
                partition by user_id, session_id
                order by mark_number
            ) then 0
            else 1
        end as is_first
    from marked
    where event_mod_frustrated > 0

),

bursts as (

    select
        *,
        sum(is_first) over (
            partition by user_id, session_id
            order by mark_number
            rows between unbounded preceding and current row
        ) as burst_number
    from rage_clicks

),

rage as (

    select
        'rage_click' as kind,
        min_by(event_id, mark_number) as event_id,
        session_key,
        min_by(page_instance_key, mark_number) as page_instance_key,
        user_id,
        session_id,
        min_by(page_id, mark_number) as page_id,
        min_by(element_text, mark_number) as element_text,
        min_by(element_selector, mark_number) as element_selector,
        min_by(element, mark_number) as element,
        min_by(page_name, mark_number) as page_name,
        min_by(page, mark_number) as page,
        min_by(page_device, mark_number) as device,
        count(*) as n_clicks,
        min(event_start_at) as signal_at,
        max(event_start_at) as ended_at,
        min(window_start) as first_window_start,
        max(window_start) as last_window_start
    from bursts
    group by session_key, user_id, session_id, burst_number

),

kinds as (

    select
        marked.*,
        signal_kinds.kind
    from marked
    inner join (values ('dead_click'), ('error_click'), ('thrash'), ('abandoned_form')) as signal_kinds (kind)
        on
            (signal_kinds.kind = 'dead_click' and marked.event_mod_dead > 0)
            or (signal_kinds.kind = 'error_click' and (marked.event_mod_error > 0 or marked.event_type = 'click_error'))
            or (signal_kinds.kind = 'thrash' and marked.event_type = 'thrash')
            or (signal_kinds.kind = 'abandoned_form' and marked.event_type = 'abandon')

),

signals as (

    select * from rage

    union all

    select
        kind,
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,
        element_text,
        element_selector,
        element,
        page_name,
        page,
        page_device as device,
        case when kind in ('dead_click', 'error_click') then 1 else 0 end as n_clicks,
        event_start_at as signal_at,
        event_start_at as ended_at,
        window_start as first_window_start,
        window_start as last_window_start
    from kinds

),

final as (

    select
        kind || ':' || event_id as signal_key,
        kind,
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,

        page,
        page_name,
        element,
        element_text,
        element_selector,
        nullif(device, '') as device,
        {{ replay_url('session_key') | trim }} as replay_url,

        n_clicks,
        {{ datediff('signal_at', 'ended_at', 'millisecond') }} / 1000.0 as duration_s,

        signal_at,
        first_window_start,
        last_window_start
    from signals

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by first_window_start, session_key, signal_key
