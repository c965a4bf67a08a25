{{ config(materialized='view') }}

with pages as (

    select
        pages.*,
        cast(pages.page_start_at as date) as page_date,
        sessions.is_bounce,
        sessions.person_key,
        row_number() over (
            partition by pages.session_key
            order by pages.page_start_at, pages.page_instance_key
        ) = 1 as is_entry,
        row_number() over (
            partition by pages.session_key
            order by pages.page_start_at desc, pages.page_instance_key desc
        ) = 1 as is_exit
    from {{ ref('page_durations') }} as pages
    inner join {{ ref('int_sessions_identified') }} as sessions
        on pages.session_key = sessions.session_key

),

final as (

    select
        page_date,
        coalesce(page, 'unknown') as page,

        count(*) as n_views,
        count(distinct session_key) as n_sessions,
        count(distinct person_key) as n_people,
        count(case when is_entry then 1 end) as n_entries,
        count(case when is_exit then 1 end) as n_exits,
        count(case when is_entry and is_bounce then 1 end) as n_bounces,
        cast(sum(n_errors) as {{ type_bigint() }}) as n_errors,
        cast(sum(n_rage_clicks) as {{ type_bigint() }}) as n_rage_clicks,
        cast(sum(n_dead_clicks) as {{ type_bigint() }}) as n_dead_clicks,
        percentile_cont(0.5) within group (order by duration_ms) / 1000.0 as median_duration_s,
        percentile_cont(0.75) within group (order by duration_ms) / 1000.0 as p75_duration_s,
        percentile_cont(0.95) within group (order by duration_ms) / 1000.0 as p95_duration_s,
        percentile_cont(0.5) within group (order by active_duration_ms) / 1000.0 as median_active_duration_s,
        percentile_cont(0.75) within group (order by active_duration_ms) / 1000.0 as p75_active_duration_s,
        percentile_cont(0.95) within group (order by active_duration_ms) / 1000.0 as p95_active_duration_s,
        percentile_cont(0.5) within group (order by max_scroll_depth_pct) as median_scroll_depth_pct
    from pages
    group by page_date, coalesce(page, 'unknown')

)

select * from final
