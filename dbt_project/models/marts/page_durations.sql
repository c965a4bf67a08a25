with events as (

    {{ session_events(events=ref('stg_fullstory__events'), sessions=ref('sessions')) }}

),

ordered as (

    select
        page_instance_key,
        session_key,
        user_id,
        session_id,
        page_id,
        event_start_at,
        event_type,
        page_start_at,
        page_duration_ms,
        page_active_duration_ms,
        page_max_scroll_depth_pct,
        n_page_errors,
        event_mod_frustrated,
        event_mod_dead,
        event_mod_error,
        window_start,
        nullif(page_url, '') as page_url,
        nullif(page_name, '') as page_name,
        nullif(app_view_name, '') as view_name,
        row_number() over (
            partition by user_id, session_id
            order by {{ event_order() }}
        ) as step_number
    from events
    where page_instance_key is not null

),

urls as (

    -- Not count(distinct …): that keeps a set for each page instance in memory, and a large build has many.
    select
        page_instance_key,
        page_url
    from ordered
    where page_url is not null
    group by page_instance_key, page_url

),

url_totals as (

    select
        page_instance_key,
        count(*) as n_urls
    from urls
    group by page_instance_key

),

pages as (

    select
        page_instance_key,
        session_key,
        user_id,
        session_id,
        page_id,
        min_by(page_url, case when page_url is not null then step_number end) as first_url,
        max_by(page_url, case when page_url is not null then step_number end) as last_url,
        max_by(page_name, case when page_name is not null then step_number end) as page_name,
        min_by(view_name, case when view_name is not null then step_number end) as view_name,
        min_by(event_type, step_number) as first_event_type,
        max_by(event_type, step_number) as last_event_type,
        count(*) as n_events,
        -- A running count within the page instance.
        max(n_page_errors) as n_errors,
        count(case when event_mod_frustrated > 0 then 1 end) as n_rage_clicks,
        count(case when event_mod_dead > 0 then 1 end) as n_dead_clicks,
        count(case when event_mod_error > 0 then 1 end) as n_error_clicks,
        -- One final number on each event of the page instance. It may differ between exports, because it grows while
        -- the page is open: the largest is the latest.
        max(page_duration_ms) as duration_ms,
        max(page_active_duration_ms) as active_duration_ms,
        max(page_max_scroll_depth_pct) as max_scroll_depth_pct,
        min(page_start_at) as page_start_at,
        min(event_start_at) as first_event_at,
        max(event_start_at) as last_event_at,
        min(window_start) as first_window_start,
        max(window_start) as last_window_start
    from ordered
    group by page_instance_key, session_key, user_id, session_id, page_id

),

final as (

    select
        pages.page_instance_key,
        pages.session_key,
        pages.user_id,
        pages.session_id,
        pages.page_id,

        pages.page_name,
        pages.first_url,
        pages.last_url,
        {{ url_host('pages.first_url') }} as url_host,
        {{ url_path('pages.first_url') }} as url_path,
        {{ url_query('pages.first_url') }} as url_query,
        {{ url_fragment('pages.first_url') }} as url_fragment,
        {{ normalized_page('pages.first_url', 'pages.view_name') }} as page,
        pages.first_event_type,
        pages.last_event_type,

        coalesce(url_totals.n_urls, 0) as n_urls,
        pages.n_events,
        coalesce(pages.n_errors, 0) as n_errors,
        pages.n_rage_clicks,
        pages.n_dead_clicks,
        pages.n_error_clicks,
        pages.duration_ms,
        pages.active_duration_ms,
        least(100.0 * pages.active_duration_ms / nullif(pages.duration_ms, 0), 100.0) as active_pct,
        pages.max_scroll_depth_pct,

        coalesce(pages.page_start_at, pages.first_event_at) as page_start_at,
        pages.first_event_at,
        pages.last_event_at,
        pages.first_window_start,
        pages.last_window_start
    from pages
    left join url_totals
        on pages.page_instance_key = url_totals.page_instance_key

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by first_window_start, session_key, page_instance_key
