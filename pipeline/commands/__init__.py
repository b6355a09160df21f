"""One module a subcommand: from options to rows. What they print is `cli`'s."""
