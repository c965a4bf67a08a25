{{ config(materialized='view') }}

with sessions as (

    select
        *,
        cast(session_end_at as {{ type_string() }}) || session_key as recency
    from {{ ref('int_sessions_identified') }}

),

totals as (

    select
        person_key,
        max_by(user_app_key, case when user_app_key is not null then recency end) as user_app_key,
        max_by(indv_id, case when indv_id is not null then recency end) as indv_id,
        max_by(user_display_name, case when user_display_name is not null then recency end) as user_display_name,
        max_by(user_email, case when user_email is not null then recency end) as user_email,
        max_by(user_traits, case when user_traits is not null then recency end) as traits,
        count(distinct user_id) as n_devices,
        count(*) as n_sessions,
        count(distinct cast(session_start_at as date)) as n_active_days,
        sum({{ whole_ms('active_duration_s') }}) / 1000.0 as active_duration_s,
        cast(sum(n_pages) as {{ type_bigint() }}) as n_pages,
        cast(sum(n_events) as {{ type_bigint() }}) as n_events,
        cast(sum(n_custom_events) as {{ type_bigint() }}) as n_custom_events,
        cast(sum(n_conversions) as {{ type_bigint() }}) as n_conversions,
        cast(sum(n_errors) as {{ type_bigint() }}) as n_errors,
        cast(sum(n_failed_requests) as {{ type_bigint() }}) as n_failed_requests,
        cast(sum(n_rage_clicks) as {{ type_bigint() }}) as n_rage_clicks,
        cast(sum(n_dead_clicks) as {{ type_bigint() }}) as n_dead_clicks,
        cast(sum(n_error_clicks) as {{ type_bigint() }}) as n_error_clicks,
        cast(sum(frustration_score) as {{ type_bigint() }}) as frustration_score,
        max_by(session_key, recency) as last_session_key,
        max_by(replay_url, recency) as last_replay_url,
        min(session_start_at) as first_seen_at,
        max(session_end_at) as last_seen_at
    from sessions
    group by person_key

),

final as (

    select
        person_key,
        user_app_key,
        indv_id,
        user_display_name,
        user_email,
        traits,
        user_app_key is not null as is_identified,

        n_devices,
        n_sessions,
        n_active_days,
        n_pages,
        n_events,
        n_custom_events,
        n_conversions,
        n_errors,
        n_failed_requests,
        n_rage_clicks,
        n_dead_clicks,
        n_error_clicks,
        frustration_score,
        active_duration_s,

        last_session_key,
        last_replay_url,

        first_seen_at,
        last_seen_at
    from totals

)

select * from final
