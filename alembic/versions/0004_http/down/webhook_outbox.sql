DROP TABLE {s}.webhook_deliveries;
DROP TABLE {s}.webhook_subscriptions;
