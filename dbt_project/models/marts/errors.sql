{{ config(materialized='view') }}

with error_events as (

    select
        error_events.*,
        identities.person_key,
        -- Of two at one instant the id decides, so that the latest is the same whatever came in first.
        cast(error_events.error_at as {{ type_string() }}) || error_events.event_id as recency
    from {{ ref('error_events') }} as error_events
    inner join {{ ref('identities') }} as identities
        on error_events.user_id = identities.user_id

),

final as (

    select
        fingerprint,
        kind,
        max_by(message, recency) as message,
        source_file,

        count(*) as n_events,
        count(distinct session_key) as n_sessions,
        count(distinct person_key) as n_people,
        count(distinct page) as n_pages,
        max_by(session_key, recency) as last_session_key,
        max_by(replay_url, recency) as last_replay_url,

        min(error_at) as first_seen_at,
        max(error_at) as last_seen_at
    from error_events
    group by fingerprint, kind, source_file

)

select * from final
