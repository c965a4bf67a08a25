with events as (

    {{ session_events(
        events=ref('stg_fullstory__events'),
        sessions=ref('sessions'),
        first_window='window_start',
        last_window='window_start'
    ) }}

),

faults as (

    select
        *,
        case
            when event_type = 'request' then 'failed_request'
            when event_type = 'console_message' then 'console_error'
            when event_type = 'crashed' then 'crash'
            else 'exception'
        end as kind,
        case
            when event_type = 'request'
                then
                    coalesce(req_method || ' ', '')
                    || coalesce({{ folded_path(url_path('req_url')) }}, req_url, '')
                    || ' ' || cast(req_status as {{ type_string() }})
            else coalesce({{ one_line('event_target_text') }}, '')
        end as message,
        coalesce(nullif(event_web_source_file_url, ''), nullif(event_mobile_source_file, '')) as source_file
    from events
    where
        (event_type = 'request' and req_status >= 400)
        or (event_type = 'console_message' and event_sub_type = 'error')
        or event_type in ('exception', 'crashed')

),

final as (

    select
        event_id,
        {{ hash("kind || ':' || " ~ folded_message('message') ~ " || ':' || coalesce(source_file, '')") }}
            as fingerprint,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,

        kind,
        nullif(message, '') as message,
        source_file,
        {{ normalized_page('page_url', "nullif(app_view_name, '')") }} as page,
        nullif(page_browser, '') as browser,
        nullif(page_device, '') as device,
        {{ replay_url('session_key') | trim }} as replay_url,

        event_start_at as error_at,
        window_start
    from faults

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by window_start, session_key, event_id
