DROP TABLE {s}.spent_tokens;
