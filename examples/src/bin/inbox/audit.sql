-- What was sent, what became of it, and every mistake. The same text for PostgreSQL and SQLite.
--
-- `sent` is the producer's list: what was sent, how often, and what has to become of it.
WITH settled AS (
    SELECT id, fate, CASE fate
        WHEN 'booked' THEN
            EXISTS (SELECT 1 FROM bookings WHERE order_id = sent.id AND cents = sent.cents)
            AND EXISTS (SELECT 1 FROM payments WHERE order_id = sent.id AND cents = sent.cents)
        ELSE
            EXISTS (SELECT 1 FROM idempotent_records_dead WHERE message_id = sent.id AND reason = sent.fate)
        END AS is_settled
    FROM sent
)
SELECT
    (SELECT count(*) FROM sent WHERE fate <> 'conflict') AS messages,
    (SELECT CAST(coalesce(sum(copies), 0) AS bigint) FROM sent) AS sendings,
    (SELECT CAST(coalesce(sum(copies - 1), 0) AS bigint) FROM sent) AS duplicates,
    (SELECT count(*) FROM bookings) AS bookings,
    (SELECT count(*) FROM payments) AS payments,
    (SELECT CAST(coalesce(sum(attempt - 1), 0) AS bigint) FROM bookings)
        + (SELECT CAST(coalesce(sum(attempt - 1), 0) AS bigint) FROM payments)
        + (SELECT CAST(coalesce(sum(attempts - 1), 0) AS bigint) FROM idempotent_records_dead WHERE attempts > 1) AS retried,
    (SELECT count(*) FROM idempotent_records_dead) AS dead,
    (SELECT count(*) FROM idempotent_records_dead WHERE reason = 'conflict') AS conflicts,
    (SELECT count(*) FROM idempotent_records_outbox) AS in_outbox,
    -- Orders with more than one row.
    (SELECT count(*) FROM (SELECT 1 FROM bookings GROUP BY order_id HAVING count(*) > 1) AS booked_twice)
        + (SELECT count(*) FROM (SELECT 1 FROM payments GROUP BY order_id HAVING count(*) > 1) AS paid_twice) AS twice,
    (SELECT count(*) FROM settled WHERE fate <> 'conflict' AND NOT is_settled) AS lost_orders,
    (SELECT count(*) FROM settled WHERE fate = 'conflict' AND NOT is_settled) AS lost_forgeries,
    -- Rows of orders that were not sent, or are not to be booked, or have another amount.
    (SELECT count(*) FROM bookings AS booked WHERE NOT EXISTS
        (SELECT 1 FROM sent WHERE id = booked.order_id AND fate = 'booked' AND cents = booked.cents))
        + (SELECT count(*) FROM payments AS paid WHERE NOT EXISTS
        (SELECT 1 FROM sent WHERE id = paid.order_id AND fate = 'booked' AND cents = paid.cents)) AS unasked
