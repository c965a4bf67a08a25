with events as (

    select * from {{ source('fullstory', 'events') }}

),

renamed as (

    select
        -- keys
        cast("UserId" as {{ type_string() }}) || ':' || cast("SessionId" as {{ type_string() }}) as session_key,
        cast("UserId" as {{ type_string() }}) || ':' || cast("SessionId" as {{ type_string() }})
        || ':' || cast("PageId" as {{ type_string() }}) as page_instance_key,

        -- identity
        "IndvId" as indv_id,
        "UserId" as user_id,
        "SessionId" as session_id,
        "PageId" as page_id,
        "UserCreated" as user_created_at,
        "UserAppKey" as user_app_key,
        "UserDisplayName" as user_display_name,
        "UserEmail" as user_email,
        "SessionStart" as session_start_at,

        -- event
        "EventStart" as event_start_at,
        "EventType" as event_type,
        "EventSubType" as event_sub_type,
        "EventCustomName" as event_custom_name,
        "EventTargetText" as event_target_text,
        "EventTargetSelector" as event_target_selector,
        "EventDuration" as event_duration_ms,
        "EventSecondaryDuration" as event_secondary_duration_ms,
        "EventPageOffset" as event_page_offset_ms,
        "EventSessionOffset" as event_session_offset_ms,
        "EventModFrustrated" as event_mod_frustrated,
        "EventModDead" as event_mod_dead,
        "EventModError" as event_mod_error,
        "EventModSuspicious" as event_mod_suspicious,
        "EventCumulativeLayoutShift" as event_cumulative_layout_shift,
        "EventFirstInputDelay" as event_first_input_delay_ms,
        "EventVarErrorKind" as event_var_error_kind,
        "EventVarFields" as event_var_fields,
        "EventWebSourceFileUrl" as event_web_source_file_url,
        "EventMobileSourceFile" as event_mobile_source_file,

        -- page
        "PageName" as page_name,
        "PageStart" as page_start_at,
        "PageDuration" as page_duration_ms,
        "PageActiveDuration" as page_active_duration_ms,
        "PageUrl" as page_url,
        "PageRefererUrl" as page_referer_url,
        "PageIp" as page_ip,
        "PageLatLong" as page_lat_long,
        "PageUserAgent" as page_user_agent,
        "PageBrowser" as page_browser,
        "PageBrowserVersion" as page_browser_version,
        "PageDevice" as page_device,
        "PagePlatform" as page_platform,
        "PageOperatingSystem" as page_operating_system,
        "PageScreenWidth" as page_screen_width_px,
        "PageScreenHeight" as page_screen_height_px,
        "PageViewportWidth" as page_viewport_width_px,
        "PageViewportHeight" as page_viewport_height_px,
        "PageNumEvents" as n_page_events,
        "PageNumDerivedEvents" as n_page_derived_events,
        "PageNumInfos" as n_page_infos,
        "PageNumWarnings" as n_page_warnings,
        "PageNumErrors" as n_page_errors,
        "PageClusterId" as page_cluster_id,
        "PageMaxScrollDepthPercent" as page_max_scroll_depth_pct,

        -- load
        "LoadDomContentTime" as load_dom_content_time_ms,
        "LoadEventTime" as load_event_time_ms,
        "LoadFirstPaintTime" as load_first_paint_time_ms,
        "LoadLargestPaintTime" as load_largest_paint_time_ms,

        -- request
        "ReqUrl" as req_url,
        "ReqMethod" as req_method,
        "ReqStatus" as req_status,

        -- mobile
        "AppName" as app_name,
        "AppPackageName" as app_package_name,
        "AppDeviceModel" as app_device_model,
        "AppDeviceVendor" as app_device_vendor,
        "AppVersion" as app_version,
        "AppOsVersion" as app_os_version,
        "AppViewName" as app_view_name,

        -- custom
        "CustomVars" as custom_vars,

        -- system
        "_event_id" as event_id,
        "_window_start" as window_start,
        "_window_end" as window_end,
        "_export_id" as export_id,
        "_loaded_at" as loaded_at,
        "_load_id" as load_id
    from events

)

select * from renamed
