-- When `delivered_seq` last moved; null: as `marked_at` and `marked_commit` say, for nobody has written it down. Those from
-- whom it is hidden what was read are shown no more than that.
ALTER TABLE participants ADD COLUMN delivered_at INTEGER;
ALTER TABLE participants ADD COLUMN delivered_commit INTEGER;
