-- The mistakes in the books of the stock. The same text for PostgreSQL and SQLite.
-- $1 how much there was of each article
--
-- One statement, so that all of it is about the same moment, whatever other processes write meanwhile.
SELECT
    (SELECT count(*) FROM stock WHERE pieces <> $1 - coalesce(
        (SELECT sum(quantity) FROM reservations WHERE reservations.article = stock.article), 0)) AS off_stock,
    (SELECT count(*) FROM (SELECT order_id FROM reservations GROUP BY order_id HAVING count(*) > 1) AS twice)
        AS reserved_twice
