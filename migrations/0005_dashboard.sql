-- Who is signed in at the dashboard, and which alerts somebody has seen.

-- A browser that showed a secret key. Its cookie is random; only its SHA-256 stands here. A session ends when it expires,
-- when its key is revoked, or when somebody signs out.
CREATE TABLE dashboard_sessions (
    hash          bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    account       text COLLATE "C" NOT NULL REFERENCES accounts (id),
    key_id        uuid NOT NULL REFERENCES api_keys (id),
    -- What the visitor wants to be called; it stands with what they note.
    name          text,
    csrf          text COLLATE "C" NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL
);
CREATE INDEX dashboard_sessions_expiry ON dashboard_sessions (expires_at);
CREATE INDEX dashboard_sessions_key ON dashboard_sessions (key_id);

-- Alerts that somebody took note of: who, and when. The first one counts.
CREATE TABLE acknowledgements (
    account          text COLLATE "C" NOT NULL,
    alert_id         text COLLATE "C" NOT NULL,
    token            text COLLATE "C" NOT NULL,
    acknowledged_by  text NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (account, alert_id)
);
CREATE INDEX acknowledgements_customer ON acknowledgements (account, token);
