with events as (

    {{ session_events(events=ref('stg_fullstory__events'), sessions=this) }}

),

ordered as (

    select
        session_key,
        user_id,
        session_id,
        page_id,
        indv_id,
        least(event_start_at, coalesce(session_start_at, event_start_at)) as started_at,
        event_start_at,
        event_type,
        event_sub_type,
        event_mod_frustrated,
        event_mod_dead,
        event_mod_error,
        page_active_duration_ms,
        n_page_errors,
        page_referer_url,
        page_lat_long,
        req_status,
        load_event_time_ms,
        load_largest_paint_time_ms,
        load_first_paint_time_ms,
        event_cumulative_layout_shift,
        event_first_input_delay_ms,
        event_custom_name,
        window_start,
        nullif(user_app_key, '') as user_app_key,
        nullif(user_display_name, '') as user_display_name,
        nullif(user_email, '') as user_email,
        nullif(page_url, '') as page_url,
        nullif(page_browser, '') as page_browser,
        nullif(page_browser_version, '') as page_browser_version,
        nullif(page_device, '') as page_device,
        nullif(page_platform, '') as page_platform,
        nullif(page_operating_system, '') as page_operating_system,
        nullif(app_name, '') as app_name,
        nullif(app_view_name, '') as app_view_name,
        row_number() over (
            partition by user_id, session_id
            order by {{ event_order() }}
        ) as step_number
    from events

),

traits as (

    -- Not in the step above: its sort would carry all variables of all events.
    select
        user_id,
        session_id,
        max_by(custom_vars, cast(event_start_at as {{ type_string() }}) || event_id) as custom_vars
    from events
    where cast(custom_vars as {{ type_string() }}) like '%"user\_%' escape '\'
    group by user_id, session_id

),

pages as (

    -- The durations of a page instance are on each of its events, so they count once a page instance.
    select
        user_id,
        session_id,
        page_id,
        max(page_active_duration_ms) as active_duration_ms,
        max(n_page_errors) as n_errors
    from ordered
    where page_id is not null
    group by user_id, session_id, page_id

),

page_totals as (

    select
        user_id,
        session_id,
        count(*) as n_pages,
        sum(active_duration_ms) as active_duration_ms,
        sum(n_errors) as n_errors
    from pages
    group by user_id, session_id

),

places as (

    -- Not count(distinct …): that keeps a set for each session in memory, and a large build has many.
    select
        user_id,
        session_id,
        page_url,
        case when page_url is null then app_view_name end as app_view_name
    from ordered
    group by user_id, session_id, page_url, case when page_url is null then app_view_name end

),

place_totals as (

    select
        user_id,
        session_id,
        count(page_url) as n_urls,
        count(coalesce(page_url, app_view_name)) as n_places
    from places
    group by user_id, session_id

),

event_totals as (

    select
        session_key,
        user_id,
        session_id,
        max_by(indv_id, case when indv_id is not null then step_number end) as indv_id,
        max_by(user_app_key, case when user_app_key is not null then step_number end) as user_app_key,
        max_by(user_display_name, case when user_display_name is not null then step_number end) as user_display_name,
        max_by(user_email, case when user_email is not null then step_number end) as user_email,
        min_by(app_view_name, case when app_view_name is not null then step_number end) as entry_view,
        max_by(app_view_name, case when app_view_name is not null then step_number end) as exit_view,
        min_by(page_url, case when page_url is not null then step_number end) as entry_url,
        max_by(page_url, case when page_url is not null then step_number end) as exit_url,
        -- Where the visitor came from stands on the entry page; on later pages it is the site itself.
        min_by(coalesce(page_referer_url, ''), case when page_url is not null then step_number end) as referrer_url,
        max_by(page_device, case when page_device is not null then step_number end) as device,
        max_by(page_browser, case when page_browser is not null then step_number end) as browser,
        max_by(page_browser_version, case when page_browser_version is not null then step_number end)
            as browser_version,
        max_by(page_operating_system, case when page_operating_system is not null then step_number end)
            as operating_system,
        max_by(page_platform, case when page_platform is not null then step_number end) as platform,
        max_by(app_name, case when app_name is not null then step_number end) as app_name,
        max_by(page_lat_long, case when page_lat_long like '%,%' then step_number end) as lat_long,
        count(*) as n_events,
        count(case when event_type = 'navigate' then 1 end) as n_navigations,
        count(case when event_type = 'click' then 1 end) as n_clicks,
        count(case when event_type = 'change' then 1 end) as n_changes,
        count(case when event_type = 'custom' then 1 end) as n_custom_events,
        count(case when event_type = 'request' then 1 end) as n_requests,
        count(case when event_type = 'request' and req_status >= 400 then 1 end) as n_failed_requests,
        count(case when event_type = 'exception' then 1 end) as n_exceptions,
        count(case when event_type = 'crashed' then 1 end) as n_crashes,
        count(case when event_mod_frustrated > 0 then 1 end) as n_rage_clicks,
        count(case when event_mod_dead > 0 then 1 end) as n_dead_clicks,
        count(case when event_mod_error > 0 then 1 end) as n_error_clicks,
        count(case when event_type = 'thrash' then 1 end) as n_thrashes,
        count(case when event_type = 'abandon' then 1 end) as n_abandoned_forms,
        count(
            case
                when event_type = 'custom' and event_custom_name in ({{ conversion_events() }}) then 1
            end
        ) as n_conversions,
        max(load_largest_paint_time_ms) as worst_lcp_ms,
        max(load_first_paint_time_ms) as worst_fcp_ms,
        max(event_cumulative_layout_shift) as worst_cls,
        max(event_first_input_delay_ms) as worst_fid_ms,
        max(load_event_time_ms) as worst_load_ms,
        min(started_at) as started_at,
        max(event_start_at) as ended_at,
        min(window_start) as first_window_start,
        max(window_start) as last_window_start
    from ordered
    group by session_key, user_id, session_id

),

final as (

    select
        event_totals.session_key,
        event_totals.user_id,
        event_totals.session_id,
        event_totals.indv_id,
        event_totals.user_app_key,
        event_totals.user_display_name,
        event_totals.user_email,
        {{ json_variables('traits.custom_vars', 'user_') | trim }} as user_traits,

        event_totals.entry_url,
        event_totals.exit_url,
        {{ normalized_page('event_totals.entry_url', 'event_totals.entry_view') }} as entry_page,
        {{ normalized_page('event_totals.exit_url', 'event_totals.exit_view') }} as exit_page,
        nullif(event_totals.referrer_url, '') as referrer_url,
        {{ url_host('event_totals.referrer_url') }} as referrer_host,
        event_totals.device,
        event_totals.browser,
        event_totals.browser_version,
        event_totals.operating_system,
        event_totals.platform,
        event_totals.app_name,
        {{ replay_url('event_totals.session_key') | trim }} as replay_url,

        event_totals.user_app_key is not null as is_identified,
        event_totals.n_conversions > 0 as is_converted,
        place_totals.n_places <= 1 and coalesce(page_totals.n_pages, 0) <= 1 as is_bounce,

        event_totals.n_events,
        coalesce(page_totals.n_pages, 0) as n_pages,
        place_totals.n_urls,
        event_totals.n_navigations,
        event_totals.n_clicks,
        event_totals.n_changes,
        event_totals.n_custom_events,
        event_totals.n_requests,
        event_totals.n_failed_requests,
        event_totals.n_exceptions,
        event_totals.n_crashes,
        cast(coalesce(page_totals.n_errors, 0) as {{ type_bigint() }}) as n_errors,
        event_totals.n_rage_clicks,
        event_totals.n_dead_clicks,
        event_totals.n_error_clicks,
        event_totals.n_thrashes,
        event_totals.n_abandoned_forms,
        event_totals.n_conversions,
        cast(
            {{ frustration_weight('rage_click') }} * event_totals.n_rage_clicks
            + {{ frustration_weight('dead_click') }} * event_totals.n_dead_clicks
            + {{ frustration_weight('error_click') }} * event_totals.n_error_clicks
            + {{ frustration_weight('thrash') }} * event_totals.n_thrashes
            + {{ frustration_weight('abandoned_form') }} * event_totals.n_abandoned_forms
            as {{ type_bigint() }}
        ) as frustration_score,
        event_totals.worst_lcp_ms,
        event_totals.worst_fcp_ms,
        event_totals.worst_cls,
        event_totals.worst_fid_ms,
        event_totals.worst_load_ms,

        {{ datediff('event_totals.started_at', 'event_totals.ended_at', 'millisecond') }} / 1000.0 as duration_s,
        cast(page_totals.active_duration_ms as double precision) / 1000.0 as active_duration_s,
        {{ number_or_null(split_part('event_totals.lat_long', "','", 1)) }} as latitude,
        {{ number_or_null(split_part('event_totals.lat_long', "','", 2)) }} as longitude,

        event_totals.started_at as session_start_at,
        event_totals.ended_at as session_end_at,
        event_totals.first_window_start,
        event_totals.last_window_start
    from event_totals
    inner join place_totals
        on
            event_totals.user_id = place_totals.user_id
            and event_totals.session_id = place_totals.session_id
    left join traits
        on
            event_totals.user_id = traits.user_id
            and event_totals.session_id = traits.session_id
    left join page_totals
        on
            event_totals.user_id = page_totals.user_id
            and event_totals.session_id = page_totals.session_id

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by first_window_start, session_key
