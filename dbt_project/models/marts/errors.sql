{{ config(materialized='view') }}

with error_events as (

    select * from {{ ref('error_events') }}

),

final as (

    select
        fingerprint,
        kind,
        max_by(message, error_at) as message,
        source_file,

        count(*) as n_events,
        count(distinct session_key) as n_sessions,
        count(distinct user_id) as n_devices,
        count(distinct page) as n_pages,
        max_by(session_key, error_at) as last_session_key,
        max_by(replay_url, error_at) as last_replay_url,

        min(error_at) as first_seen_at,
        max(error_at) as last_seen_at
    from error_events
    group by fingerprint, kind, source_file

)

select * from final
