-- Takes 0003_cutover.sql away again, the last first.

DROP TABLE {s}.canaries;
DROP TABLE {s}.executor_health;
