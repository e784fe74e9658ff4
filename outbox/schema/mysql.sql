-- Messages that wait for the relay, in the order of their ids.
CREATE TABLE IF NOT EXISTS motif_outbox (
	id          BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
	stored_at   BIGINT         NOT NULL, -- microseconds since 1970, UTC
	destination VARBINARY(300) NOT NULL, -- as in queue:orders
	envelope    MEDIUMTEXT     NOT NULL, -- JSON: id, headers and properties of the message
	payload     LONGBLOB       NOT NULL,
	attempts    INTEGER        NOT NULL DEFAULT 0, -- failed ones
	error       VARCHAR(1000)  NOT NULL DEFAULT '' -- of the last one
) ENGINE = InnoDB, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Those that cannot be sent, and why.
CREATE TABLE IF NOT EXISTS motif_outbox_parked (
	id          BIGINT         NOT NULL PRIMARY KEY,
	stored_at   BIGINT         NOT NULL,
	destination VARBINARY(300) NOT NULL,
	envelope    MEDIUMTEXT     NOT NULL,
	payload     LONGBLOB       NOT NULL,
	attempts    INTEGER        NOT NULL,
	error       VARCHAR(1000)  NOT NULL,
	parked_at   BIGINT         NOT NULL
) ENGINE = InnoDB, DEFAULT CHARACTER SET utf8mb4, COLLATE utf8mb4_bin;

-- Which relay is at work: one row.
CREATE TABLE IF NOT EXISTS motif_outbox_leader (
	id    INTEGER       NOT NULL PRIMARY KEY,
	owner VARBINARY(64) NOT NULL, -- empty for none
	beat  BIGINT        NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO motif_outbox_leader (id, owner, beat) VALUES (1, '', 0);

-- The inbox: messages that middleware.Once has seen handled. Ids are bytes: in this database's usual
-- collations A and a would be one message.
CREATE TABLE IF NOT EXISTS motif_once (
	queue      VARBINARY(255) NOT NULL,
	id         VARBINARY(255) NOT NULL,
	handled_at DATETIME(6)    NOT NULL,
	PRIMARY KEY (queue, id)
) ENGINE = InnoDB;
