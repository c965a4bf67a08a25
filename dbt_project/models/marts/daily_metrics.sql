{{ config(materialized='view') }}

with sessions as (

    select
        *,
        cast(session_start_at as date) as metric_date
    from {{ ref('int_sessions_identified') }}

),

split as (

    select
        sessions.*,
        splits.dimension,
        case splits.dimension
            when 'all' then 'all'
            when 'device' then coalesce(sessions.device, 'unknown')
            when 'browser' then coalesce(sessions.browser, 'unknown')
            when 'operating_system' then coalesce(sessions.operating_system, 'unknown')
            when 'platform' then coalesce(sessions.platform, 'unknown')
            when 'place'
                then coalesce(
                    cast(sessions.latitude as {{ type_string() }}) || ','
                    || cast(sessions.longitude as {{ type_string() }}),
                    'unknown'
                )
        end as dimension_value
    from sessions
    cross join (
        values ('all'), ('device'), ('browser'), ('operating_system'), ('platform'), ('place')
    ) as splits (dimension)

),

final as (

    select
        metric_date,
        dimension,
        dimension_value,

        count(*) as n_sessions,
        count(distinct person_key) as n_people,
        count(case when is_first then 1 end) as n_new_people,
        count(distinct case when is_identified then person_key end) as n_identified_people,
        cast(sum(n_pages) as {{ type_bigint() }}) as n_pages,
        cast(sum(n_events) as {{ type_bigint() }}) as n_events,
        cast(sum(n_errors) as {{ type_bigint() }}) as n_errors,
        cast(sum(n_failed_requests) as {{ type_bigint() }}) as n_failed_requests,
        cast(sum(n_rage_clicks) as {{ type_bigint() }}) as n_rage_clicks,
        cast(sum(n_dead_clicks) as {{ type_bigint() }}) as n_dead_clicks,
        cast(sum(n_error_clicks) as {{ type_bigint() }}) as n_error_clicks,
        count(case when frustration_score > 0 then 1 end) as n_frustrated_sessions,
        count(case when is_converted then 1 end) as n_converted_sessions,
        100.0 * count(case when is_converted then 1 end) / count(*) as converted_pct,
        100.0 * count(case when is_bounce then 1 end) / count(*) as bounce_pct,
        percentile_cont(0.5) within group (order by duration_s) as median_duration_s,
        percentile_cont(0.95) within group (order by duration_s) as p95_duration_s,
        sum({{ whole_ms('active_duration_s') }}) / 1000.0 as active_duration_s
    from split
    group by metric_date, dimension, dimension_value

)

select * from final
