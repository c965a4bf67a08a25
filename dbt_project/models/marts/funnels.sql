{{ config(materialized='view') }}

with steps as (

    select
        funnel_steps.*,
        case funnel_steps.funnel
            {%- for funnel in funnels() %}
            when '{{ funnel.name }}'
                then {{ 'identities.person_key' if funnel.within_days is defined else 'funnel_steps.session_key' }}
            {%- endfor %}
        end as attempt_key,
        case funnel_steps.funnel
            {%- for funnel in funnels() %}
            when '{{ funnel.name }}' then {{ funnel.within_days if funnel.within_days is defined else 3650 }}
            {%- endfor %}
        end as within_days
    from {{ ref('funnel_steps') }} as funnel_steps
    left join {{ ref('identities') }} as identities
        on funnel_steps.user_id = identities.user_id

),

-- A step counts from the moment the one before it was reached: what happened earlier is no progress.
step_1 as (

    select
        funnel,
        attempt_key,
        min_by(device, reached_at) as device,
        min(reached_at) as reached_at,
        min(reached_at) as started_at
    from steps
    where step_number = 1
    group by funnel, attempt_key

),

{% for number in range(2, longest_funnel() + 1) -%}
step_{{ number }} as (

    select
        steps.funnel,
        steps.attempt_key,
        min(steps.reached_at) as reached_at
    from steps
    inner join step_{{ number - 1 }} as before
        on
            steps.funnel = before.funnel
            and steps.attempt_key = before.attempt_key
            and steps.reached_at >= before.reached_at
    inner join step_1
        on
            steps.funnel = step_1.funnel
            and steps.attempt_key = step_1.attempt_key
    where
        steps.step_number = {{ number }}
        and steps.reached_at <= {{ dateadd('day', 'steps.within_days', 'step_1.started_at') }}
    group by steps.funnel, steps.attempt_key

),

{% endfor -%}
reached as (

    {% for number in range(1, longest_funnel() + 1) -%}
    select
        {{ number }} as step_number,
        step_{{ number }}.funnel,
        step_1.device,
        cast({{ date_trunc('week', 'step_1.started_at') }} as date) as week_start_date,
        {% if loop.first -%}
        cast(null as double precision) as since_previous_step_s
        from step_1
        {%- else -%}
        {{ datediff('before.reached_at', 'step_' ~ number ~ '.reached_at', 'millisecond') }} / 1000.0
            as since_previous_step_s
        from step_{{ number }}
        inner join step_1
            on
                step_{{ number }}.funnel = step_1.funnel
                and step_{{ number }}.attempt_key = step_1.attempt_key
        inner join step_{{ number - 1 }} as before
            on
                step_{{ number }}.funnel = before.funnel
                and step_{{ number }}.attempt_key = before.attempt_key
        {%- endif %}
    {% if not loop.last %}
    union all

    {% endif %}
    {%- endfor %}
),

counted as (

    select
        funnel,
        week_start_date,
        coalesce(device, 'unknown') as device,
        step_number,
        count(*) as n_reached,
        percentile_cont(0.5) within group (order by since_previous_step_s) as median_since_previous_step_s
    from reached
    group by funnel, week_start_date, coalesce(device, 'unknown'), step_number

),

names as (

    select * from (
        values
        {%- for step in funnel_steps() %}
        ('{{ step.funnel }}', {{ step.number }}, {{ string_literal(escape_single_quotes(step.name)) }})
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    ) as names (funnel, step_number, step_name)

),

-- A step that nobody reached has a row as well: that is what a funnel is for.
begun as (

    select
        counted.funnel,
        counted.week_start_date,
        counted.device,
        names.step_number,
        names.step_name,
        counted.n_reached as n_begun
    from counted
    inner join names
        on counted.funnel = names.funnel
    where counted.step_number = 1

),

shown as (

    select
        begun.*,
        coalesce(counted.n_reached, 0) as n_reached,
        counted.median_since_previous_step_s,
        coalesce(
            lag(coalesce(counted.n_reached, 0)) over (
                partition by begun.funnel, begun.week_start_date, begun.device
                order by begun.step_number
            ),
            begun.n_begun
        ) as n_before
    from begun
    left join counted
        on
            begun.funnel = counted.funnel
            and begun.week_start_date = counted.week_start_date
            and begun.device = counted.device
            and begun.step_number = counted.step_number

),

final as (

    select
        funnel,
        week_start_date,
        device,
        step_number,
        step_name,
        n_reached,
        n_before - n_reached as n_lost,
        100.0 * n_reached / nullif(n_before, 0) as of_previous_pct,
        100.0 * n_reached / n_begun as of_first_pct,
        median_since_previous_step_s
    from shown

)

select * from final
