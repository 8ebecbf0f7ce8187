-- The schema's version, and the settings of the file and of the connection that the promises rest on.
SELECT (SELECT version FROM {table}_schema),
       (SELECT journal_mode FROM pragma_journal_mode),
       (SELECT synchronous FROM pragma_synchronous)
