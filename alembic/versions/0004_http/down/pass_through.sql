DROP TABLE {s}.forwarded_requests;
