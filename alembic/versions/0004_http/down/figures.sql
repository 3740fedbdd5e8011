DROP TABLE {s}.finished_counted;
DROP TABLE {s}.finished_counts;
