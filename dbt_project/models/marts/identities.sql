{{ config(materialized='view') }}

with sessions as (

    select * from {{ ref('sessions') }}

),

devices as (

    select
        user_id,
        -- The latest that it was told; of two sessions that ended together the key decides.
        max_by(
            user_app_key,
            case when user_app_key is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as user_app_key,
        max_by(
            indv_id,
            case when indv_id is not null then cast(session_end_at as {{ type_string() }}) || session_key end
        ) as indv_id,
        min(case when user_app_key is not null then session_start_at end) as identified_at,
        min(session_start_at) as first_seen_at,
        max(session_end_at) as last_seen_at
    from sessions
    group by user_id

),

final as (

    select
        user_id,
        coalesce(user_app_key, cast(user_id as {{ type_string() }})) as person_key,
        user_app_key,
        indv_id,
        user_app_key is not null as is_identified,
        identified_at,
        first_seen_at,
        last_seen_at
    from devices

)

select * from final
