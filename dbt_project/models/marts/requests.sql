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

        nullif(req_method, '') as http_method,
        nullif(req_url, '') as full_url,
        {{ url_host('req_url') }} as url_host,
        {{ folded_path(url_path('req_url')) }} as endpoint,
        req_status as status,
        coalesce(req_status >= 400, false) as is_failed,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page,

        event_start_at as requested_at,
        window_start
    from events
    where event_type = 'request'

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by window_start, session_key, event_id
