-- Messages that wait for the relay, in the order of their ids, none of which is used twice.
CREATE TABLE IF NOT EXISTS motif_outbox (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	stored_at   INTEGER NOT NULL, -- microseconds since 1970, UTC
	destination TEXT    NOT NULL, -- as in queue:orders
	envelope    TEXT    NOT NULL, -- JSON: id, headers and properties of the message
	payload     BLOB    NOT NULL,
	attempts    INTEGER NOT NULL DEFAULT 0, -- failed ones
	error       TEXT    NOT NULL DEFAULT '' -- of the last one
);

-- Those that cannot be sent, and why.
CREATE TABLE IF NOT EXISTS motif_outbox_parked (
	id          INTEGER PRIMARY KEY,
	stored_at   INTEGER NOT NULL,
	destination TEXT    NOT NULL,
	envelope    TEXT    NOT NULL,
	payload     BLOB    NOT NULL,
	attempts    INTEGER NOT NULL,
	error       TEXT    NOT NULL,
	parked_at   INTEGER NOT NULL
);

-- Which relay is at work: one row.
CREATE TABLE IF NOT EXISTS motif_outbox_leader (
	id    INTEGER PRIMARY KEY,
	owner TEXT    NOT NULL, -- empty for none
	beat  INTEGER NOT NULL
);

INSERT OR IGNORE INTO motif_outbox_leader (id, owner, beat) VALUES (1, '', 0);

-- The inbox: messages that middleware.Once has seen handled.
CREATE TABLE IF NOT EXISTS motif_once (
	queue      VARCHAR(255) NOT NULL,
	id         VARCHAR(255) NOT NULL,
	handled_at TIMESTAMP    NOT NULL,
	PRIMARY KEY (queue, id)
);
