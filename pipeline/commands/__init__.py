"""One module a subcommand that reads the database: from options to rows. What they print is `cli`'s."""
