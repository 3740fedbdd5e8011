DROP TABLE {s}.environment_variables;
