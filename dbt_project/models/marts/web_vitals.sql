with events as (

    {{ session_events(events=ref('stg_fullstory__events'), sessions=ref('sessions')) }}

),

told as (

    select * from events
    where
        event_type in ('load', 'cumulative_layout_shift', 'first_input_delay')
        and page_instance_key is not null

),

metrics as (

    select
        limits.metric,
        limits.unit,
        limits.good_up_to,
        limits.poor_above
    from (
        values
        ('LCP', 'ms', 2500.0, 4000.0),
        ('FCP', 'ms', 1800.0, 3000.0),
        ('load', 'ms', 3000.0, 6000.0),
        ('CLS', 'score', 0.1, 0.25),
        ('FID', 'ms', 100.0, 300.0)
    ) as limits (metric, unit, good_up_to, poor_above)

),

measured as (

    select
        told.*,
        metrics.*,
        {{ normalized_page('told.page_url') }} as page,
        case metrics.metric
            when 'LCP' then cast(told.load_largest_paint_time_ms as double precision)
            when 'FCP' then cast(told.load_first_paint_time_ms as double precision)
            when 'load' then cast(told.load_event_time_ms as double precision)
            when 'CLS' then told.event_cumulative_layout_shift
            when 'FID' then cast(told.event_first_input_delay_ms as double precision)
        end as metric_value
    from told
    cross join metrics

),

page_totals as (

    select
        metric,
        unit,
        good_up_to,
        poor_above,
        page_instance_key,
        session_key,
        user_id,
        session_id,
        page_id,
        -- The page's last word: a shift adds to those before it, and each export may tell of more.
        max(metric_value) as metric_value,
        min_by(page, cast(event_start_at as {{ type_string() }}) || event_id) as page,
        max(nullif(page_device, '')) as device,
        max(nullif(page_browser, '')) as browser,
        min(event_start_at) as measured_at,
        min(window_start) as first_window_start,
        max(window_start) as last_window_start
    from measured
    where metric_value is not null
    group by
        metric, unit, good_up_to, poor_above, page_instance_key, session_key, user_id, session_id, page_id

),

final as (

    select
        metric || ':' || page_instance_key as vital_key,
        page_instance_key,
        session_key,
        user_id,
        session_id,
        page_id,

        metric,
        metric_value,
        unit,
        case
            when metric_value <= good_up_to then 'good'
            when metric_value <= poor_above then 'needs improvement'
            else 'poor'
        end as rating,
        page,
        device,
        browser,

        measured_at,
        first_window_start,
        last_window_start
    from page_totals

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by first_window_start, session_key, vital_key
