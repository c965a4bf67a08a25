with sessions as (

    select * from {{ ref('sessions') }}

),

identities as (

    select * from {{ ref('identities') }}

),

final as (

    select
        sessions.*,
        identities.person_key,
        row_number() over (
            partition by identities.person_key
            order by sessions.session_start_at, sessions.session_key
        ) = 1 as is_first
    from sessions
    inner join identities
        on sessions.user_id = identities.user_id

)

-- All that sessions has, whatever that is.
select * from final  -- noqa: AM04
