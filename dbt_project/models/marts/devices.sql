{{ config(materialized='view') }}

with sessions as (

    select * from {{ ref('sessions') }}

),

identities as (

    select * from {{ ref('identities') }}

),

totals as (

    select
        user_id,
        max_by(
            device,
            case when device is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as device,
        max_by(
            browser,
            case when browser is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as browser,
        max_by(
            browser_version,
            case when browser_version is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as browser_version,
        max_by(
            operating_system,
            case when operating_system is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as operating_system,
        max_by(
            platform,
            case when platform is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as platform,
        max_by(
            app_name,
            case when app_name is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as app_name,
        count(*) as n_sessions,
        count(distinct cast(session_start_at as date)) as n_active_days,
        sum(n_pages) as n_pages,
        sum(n_events) as n_events
    from sessions
    group by user_id

),

final as (

    select
        totals.user_id,
        identities.person_key,
        identities.user_app_key,
        identities.is_identified,

        totals.device,
        totals.browser,
        totals.browser_version,
        totals.operating_system,
        totals.platform,
        totals.app_name,

        totals.n_sessions,
        totals.n_active_days,
        cast(totals.n_pages as {{ type_bigint() }}) as n_pages,
        cast(totals.n_events as {{ type_bigint() }}) as n_events,

        identities.identified_at,
        identities.first_seen_at,
        identities.last_seen_at
    from totals
    inner join identities
        on totals.user_id = identities.user_id

)

select * from final
