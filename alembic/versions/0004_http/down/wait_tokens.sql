DROP TABLE {s}.wait_tokens;
