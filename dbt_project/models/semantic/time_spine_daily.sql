with recursive sessions as (

    select
        min(cast(session_start_at as date)) as first_date,
        max(cast(session_start_at as date)) as last_date
    from {{ ref('sessions') }}

),

days as (

    select
        first_date as date_day,
        last_date
    from sessions
    where first_date is not null

    union all

    select
        cast({{ dateadd('day', 1, 'date_day') }} as date) as date_day,
        last_date
    from days
    where date_day < last_date

),

final as (

    select date_day
    from days

)

select * from final
