-- The first part of each statement that changes a record outside of a transaction of its caller's. What the statement
-- needs is set for it alone: set for the session, it would be there for the next client of a pooler, too.
-- A lock is not waited for when nobody waits for the answer any more, and an answer means that the change is on disk.
settings AS MATERIALIZED (
    SELECT
        set_config('lock_timeout', '{lock_timeout}', true),
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
)
