{% macro session_events(events, sessions, first_window='first_window_start', last_window='last_window_start') %}
    {#-
        The events a session-grained model has to read: all of them when it is built whole, else every event of every
        session that a pending window touches.

        A session is touched when it has events in a pending window, or when the model holds rows of it for one (the
        window was loaded again and the session may have left it). The windows of a touched session are the pending
        ones and those the sessions table knows it by: every window that is not pending is reflected there.

        All three conditions on window_start are semi-joins with a handful of windows, so that the engine can skip the
        rest of the table (DuckDB pushes them into the scan and skips row groups). As inner joins they are the same rows,
        but where DuckDB knows little of a table, as of a lake's, it takes the events that a model's filter leaves for
        the smaller side, and reads all of them.

        Args:
            events: relation of events, with window_start.
            sessions: relation with one row a session and its window range; the model itself if it is that table.
            first_window, last_window: the columns in which the model keeps the range of windows of its rows.
    -#}
    {%- if not is_incremental() %}
    select * from {{ events }}
    {%- else %}
    with pending_windows as (
        {{ pending_windows() | trim | indent(4) }}
    ),

    touched_sessions as (
        select
            user_id,
            session_id
        from {{ events }}
        where window_start in (select window_start from pending_windows)

        union distinct

        select
            user_id,
            session_id
        from {{ this }}
        where {{ is_held_for('(select window_start from pending_windows)', first_window, last_window) | trim | indent(8) }}
    ),

    known_ranges as (
        select distinct
            known.first_window_start,
            known.last_window_start
        from {{ sessions }} as known
        where
            exists (
                select 1
                from touched_sessions
                where
                    touched_sessions.user_id = known.user_id
                    and touched_sessions.session_id = known.session_id
            )
    ),

    windows_to_read as (
        select window_start from pending_windows

        union distinct

        select loads.window_start
        from {{ source('fullstory', '_loads') }} as loads
        inner join known_ranges
            on loads.window_start between known_ranges.first_window_start and known_ranges.last_window_start
    )

    select events.*
    from {{ events }} as events
    where
        events.window_start in (select windows_to_read.window_start from windows_to_read)
        and exists (
            select 1
            from touched_sessions
            where
                touched_sessions.user_id = events.user_id
                and touched_sessions.session_id = events.session_id
        )
    {%- endif %}
{% endmacro %}


{% macro is_held_for(windows, first_window, last_window) %}
    {#-
        Whether a row's range of windows includes one of `windows` (a subquery). The bounds let the scan skip; where
        there is no window at all, a bound that no row reaches lets it skip everything.
    -#}
    {%- if first_window == last_window -%}
    {{ first_window }} in {{ windows }}
    {%- else -%}
    {{ last_window }} >= (select coalesce(min(window_start), {{ end_of_time() }}) from {{ windows }} as earliest)
    and {{ first_window }} <= (select max(window_start) from {{ windows }} as latest)
    and exists (
        select 1
        from {{ windows }} as held
        where held.window_start between {{ first_window }} and {{ last_window }}
    )
    {%- endif -%}
{% endmacro %}


{% macro end_of_time() %}cast('9999-12-31' as {{ type_timestamp() }}){% endmacro %}
