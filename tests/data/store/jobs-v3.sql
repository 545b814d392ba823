-- Written by make_jobs_v3.py.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE events (
  job_number INTEGER NOT NULL REFERENCES jobs (number),
  number INTEGER NOT NULL,
  time_ms INTEGER NOT NULL,
  event BLOB NOT NULL,
  PRIMARY KEY (job_number, number)
) WITHOUT ROWID;
INSERT INTO "events" VALUES(1,1,0,X'080112060880E2CFAA061A020801');
INSERT INTO "events" VALUES(1,2,0,X'080212060889E2CFAA061A020808');
INSERT INTO "events" VALUES(2,1,0,X'080112060883E2CFAA063A030A0177');
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT UNIQUE,
  request_sha256 TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  spec BLOB NOT NULL,
  progress BLOB NOT NULL,
  create_time_ms INTEGER NOT NULL,
  start_time_ms INTEGER NOT NULL,
  end_time_ms INTEGER NOT NULL,
  resume_count INTEGER NOT NULL,
  resumed_from_epoch INTEGER NOT NULL,
  topology TEXT NOT NULL,
  lora_path TEXT NOT NULL,
  warnings TEXT NOT NULL,
  last_event INTEGER NOT NULL,
  epochs_reported INTEGER NOT NULL,
  eval_reported INTEGER NOT NULL,
  checkpoint_reported INTEGER NOT NULL,
  restarts_without_epoch INTEGER NOT NULL
, best_lora_path TEXT NOT NULL DEFAULT '', best_epoch INTEGER NOT NULL DEFAULT 0, best_value REAL NOT NULL DEFAULT 0, owner TEXT NOT NULL DEFAULT '', topology_reason TEXT NOT NULL DEFAULT '', model_count TEXT NOT NULL DEFAULT '', priority INTEGER NOT NULL DEFAULT 0, labels TEXT NOT NULL DEFAULT '{}', branched_from TEXT NOT NULL DEFAULT '', branched_from_epoch INTEGER NOT NULL DEFAULT 0);
INSERT INTO "jobs" VALUES(1,'job-000001','first','hash','SUCCEEDED','',X'0A05656E64656410075804',X'08041004188002',1700000000000,1700000001000,1700000009000,2,3,'colocated 1','checkpoints/epoch-000004/pytorch_lora_weights.safetensors','["slow disk"]',2,4,4,4,0,'best',3,0.5,'alice','the fastest','',5,'{"sweep": "rates"}','',0);
INSERT INTO "jobs" VALUES(2,'job-000002',NULL,'hash','PAUSED','paused by request',X'0A067061757365645809',X'08011009',1700000000000,1700000002000,0,0,-1,'rollout 1, trainer 1','','[]',1,1,-1,-1,0,'',0,0.0,'','','',0,'{}','job-000001',1);
CREATE TABLE service (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX jobs_by_state ON jobs (state);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',2);
COMMIT;
PRAGMA foreign_keys = ON;
PRAGMA user_version = 3;
