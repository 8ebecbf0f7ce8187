-- What the promises rest on: the schema's version, and settings of the file and of the connection.
SELECT (SELECT version FROM {table}_schema),
       (SELECT journal_mode FROM pragma_journal_mode),
       (SELECT synchronous FROM pragma_synchronous)
