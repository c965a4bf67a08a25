with events as (

    {{ session_events(
        events=ref('stg_fullstory__events'),
        sessions=ref('sessions'),
        first_window='window_start',
        last_window='window_start'
    ) }}

),

ordered as (

    select
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,
        event_type,
        event_sub_type,
        event_target_text,
        event_target_selector,
        event_mod_frustrated,
        event_mod_dead,
        event_mod_error,
        load_event_time_ms,
        req_status,
        custom_vars,
        event_start_at,
        window_start,
        nullif(event_custom_name, '') as event_custom_name,
        coalesce(nullif(event_var_fields, ''), nullif(event_var_error_kind, '')) as faulty_property,
        coalesce(nullif(event_web_source_file_url, ''), nullif(event_mobile_source_file, '')) as source_file,
        nullif(req_url, '') as req_url,
        nullif(req_method, '') as req_method,
        nullif(page_name, '') as page_name,
        nullif(page_url, '') as page_url,
        nullif(app_view_name, '') as app_view_name,
        nullif(user_app_key, '') as user_app_key,
        {{ quoted('event_target_text') }} as quoted_text,
        {{ target_element('event_target_selector') }} as target_element,
        coalesce({{ quoted('event_target_text') }}, {{ target_element('event_target_selector') }}, 'something')
            as target_name,
        ' (click ' || cast(event_mod_frustrated as {{ type_string() }}) || ' of the burst)' as burst,
        cast(cast(load_event_time_ms / 1000.0 as decimal(18, 1)) as {{ type_string() }}) as load_s,
        cast(event_first_input_delay_ms as {{ type_string() }}) as first_input_delay_ms,
        cast(cast(event_cumulative_layout_shift as decimal(18, 3)) as {{ type_string() }}) as layout_shift,
        case
            when req_status >= 400 then ' failed with ' || cast(req_status as {{ type_string() }})
            when req_status > 0 then ' was answered with ' || cast(req_status as {{ type_string() }})
            else ' was sent'
        end as req_result,
        case
            when page_url <> '' then ' on the page at ' || page_url
            when app_view_name <> '' then ' on the screen “' || app_view_name || '”'
            else ''
        end as place,
        case
            when page_url <> '' then 'page at ' || page_url
            when app_view_name <> '' then 'screen “' || app_view_name || '”'
            else 'page'
        end as place_name,
        min(least(event_start_at, coalesce(session_start_at, event_start_at)))
            over (partition by user_id, session_id)
            as started_at,
        lag(event_start_at)
            over (partition by user_id, session_id order by {{ event_order() }})
            as previous_event_start_at,
        row_number()
            over (partition by user_id, session_id order by {{ event_order() }})
            as step_number
    from events

),

final as (

    select
        event_id,
        session_key,
        page_instance_key,
        user_id,
        session_id,
        page_id,

        step_number,
        {{ datediff('started_at', 'event_start_at', 'millisecond') }} / 1000.0 as since_session_start_s,
        {{ datediff('previous_event_start_at', 'event_start_at', 'millisecond') }} / 1000.0 as since_previous_step_s,

        case event_type
            when 'navigate'
                then case event_sub_type
                    when 'reload' then 'Reloaded the '
                    when 'back_forward' then 'Went back or forward to the '
                    else 'Went to the '
                end || place_name
            when 'pageview'
                then 'Viewed the ' || place_name
            when 'load'
                then 'The ' || place_name || ' loaded' || coalesce(' in ' || load_s || ' s', '')
            when 'click'
                then
                    case
                        when event_mod_frustrated > 0 then 'Rage-clicked ' || target_name || place || burst
                        else 'Clicked ' || target_name || place
                    end
                    || case when event_mod_dead > 0 then ', and nothing happened' else '' end
                    || case
                        when event_mod_error = 2 then ', which led to a console error'
                        when event_mod_error = 3 then ', which led to an uncaught exception'
                        when event_mod_error > 0 then ', which led to an error'
                        else ''
                    end
            when 'click_error'
                then 'The click on ' || target_name || place || ' led to an error'
            when 'change'
                then 'Changed ' || coalesce(target_element, 'a field') || coalesce(' to ' || quoted_text, '') || place
            when 'abandon'
                then 'Abandoned the form' || coalesce(' ' || target_element, '') || place
            when 'thrash'
                then 'Moved the mouse about wildly' || place
            when 'highlight'
                then 'Highlighted ' || coalesce(quoted_text, 'text') || place
            when 'copy'
                then 'Copied ' || coalesce(quoted_text, 'text') || place
            when 'paste'
                then 'Pasted into ' || coalesce(target_element, 'a field') || place
            when 'seen'
                then
                    'Saw ' || target_name || place
                    || case when event_sub_type = 'rendered' then ' (rendered)' else '' end
            when 'seen_error'
                then 'An element to watch for was not understood' || place
            when 'custom'
                then 'Custom event ' || coalesce('“' || event_custom_name || '”', 'without a name') || place
            when 'custom_error'
                then
                    'Custom event ' || coalesce('“' || event_custom_name || '”', 'without a name')
                    || ' had a faulty property' || coalesce(' (' || faulty_property || ')', '') || place
            when 'uservar'
                then coalesce('Was identified as “' || user_app_key || '”', 'Got user properties') || place
            when 'request'
                then 'The request ' || coalesce(req_method || ' ', '') || coalesce(req_url, '') || req_result || place
            when 'exception'
                then
                    case when event_sub_type = 'uncaught' then 'An uncaught exception' else 'An exception' end
                    || ' was thrown' || coalesce(': ' || quoted_text, '') || coalesce(' in ' || source_file, '')
                    || place
            when 'console_message'
                then
                    case when event_sub_type = 'error' then 'An error' else 'A message' end
                    || ' was logged to the console' || coalesce(': ' || quoted_text, '') || place
            when 'crashed'
                then 'The app crashed' || place
            when 'backgrounded'
                then 'Put the app in the background' || place
            when 'low_memory'
                then 'The device ran low on memory' || place
            when 'keyboard_open'
                then 'Opened the keyboard' || place
            when 'keyboard_close'
                then 'Closed the keyboard' || place
            when 'pinch_gesture'
                then case event_sub_type
                    when 'pinch_scale_in' then 'Pinched in'
                    when 'pinch_scale_out' then 'Pinched out'
                    else 'Pinched'
                end || place
            when 'first_input_delay'
                then 'The first input had to wait' || coalesce(' ' || first_input_delay_ms || ' ms', '') || place
            when 'cumulative_layout_shift'
                then 'The layout shifted' || coalesce(' by ' || layout_shift, '') || place
            else
                'Event “' || replace(event_type, '_', ' ') || '”'
                || coalesce(' on ' || quoted_text, ' on ' || target_element, '') || place
        end as description,
        event_type,
        event_sub_type,
        event_custom_name,
        event_target_text,
        event_target_selector,
        page_name,
        page_url,
        {{ url_host('page_url') }} as url_host,
        {{ url_path('page_url') }} as url_path,
        {{ url_fragment('page_url') }} as url_fragment,
        app_view_name,
        req_method,
        req_url,
        req_status,
        load_event_time_ms,
        custom_vars,
        {{ replay_url('session_key') | trim }} as replay_url,

        coalesce(event_mod_frustrated > 0, false) as is_rage_click,
        coalesce(event_mod_dead > 0, false) as is_dead_click,
        coalesce(event_mod_error > 0, false) as is_error_click,

        event_start_at,
        window_start
    from ordered

)

-- In the order of the windows, so that a later build can skip what it does not touch.
select * from final
order by window_start, session_key, step_number
