SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.churnd_add_event_day(day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '5s'
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    child text := 'events_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('churnd events ' || current_schema(), 0));
    IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL) WITH (autovacuum_vacuum_insert_scale_factor = 0.5)', child);
    EXECUTE format(
        'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        child, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    RETURN true;
END $$;
CREATE FUNCTION public.churnd_drop_event_days(before date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '5s'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    child record;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('churnd events ' || current_schema(), 0));
    FOR child IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
          AND to_date(substr(c.relname, 8), 'YYYYMMDD') < before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', child.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $_$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.accounts (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT accounts_id_check CHECK ((id ~ '^[a-z0-9_-]{1,32}$'::text))
);
CREATE TABLE public.api_keys (
    id uuid NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    prefix text NOT NULL COLLATE pg_catalog."C",
    hash bytea NOT NULL,
    allowed_origins text[] DEFAULT '{}'::text[] NOT NULL,
    rate_per_minute integer,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT api_keys_kind_check CHECK ((kind = ANY (ARRAY['publishable'::text, 'secret'::text]))),
    CONSTRAINT api_keys_rate_per_minute_check CHECK ((rate_per_minute > 0))
);
CREATE TABLE public.customer_states (
    partition smallint NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    customer text NOT NULL COLLATE pg_catalog."C",
    snapshot bytea NOT NULL,
    score smallint NOT NULL,
    level text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    mrr_minor bigint,
    mrr_currency text COLLATE pg_catalog."C",
    due_hour bigint,
    due_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT customer_states_score_check CHECK (((score >= 0) AND (score <= 100)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_insert_scale_factor='0.1', autovacuum_analyze_scale_factor='0.1', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');
CREATE TABLE public.customers (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    external_id text NOT NULL COLLATE pg_catalog."C",
    company_name text,
    email text,
    stripe_customer_id text COLLATE pg_catalog."C",
    mrr bigint,
    currency text COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='90');
CREATE TABLE public.deliveries (
    id bigint NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    alert_id text NOT NULL COLLATE pg_catalog."C",
    channel text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL,
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    state text DEFAULT 'pending'::text NOT NULL COLLATE pg_catalog."C",
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    delivered_at timestamp with time zone,
    CONSTRAINT deliveries_channel_check CHECK ((channel = ANY (ARRAY['slack'::text, 'email'::text, 'webhook'::text]))),
    CONSTRAINT deliveries_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'given_up'::text])))
)
WITH (fillfactor='80');
ALTER TABLE public.deliveries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.erasure_customers (
    erasure uuid NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    customer text NOT NULL COLLATE pg_catalog."C",
    forgotten_at timestamp with time zone,
    settled_at timestamp with time zone
);
CREATE TABLE public.erasures (
    id uuid NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    hash bytea NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL COLLATE pg_catalog."C",
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone,
    claimed_by uuid,
    claimed_until timestamp with time zone,
    events_end bigint,
    webhooks_end bigint,
    events bigint DEFAULT 0 NOT NULL,
    webhooks bigint DEFAULT 0 NOT NULL,
    alerts bigint DEFAULT 0 NOT NULL,
    dead_letters bigint DEFAULT 0 NOT NULL,
    scores bigint DEFAULT 0 NOT NULL,
    stored_rows bigint DEFAULT 0 NOT NULL,
    CONSTRAINT erasures_check CHECK (((state = 'done'::text) = (completed_at IS NOT NULL))),
    CONSTRAINT erasures_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT erasures_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'erasing'::text, 'checking'::text, 'sweeping'::text, 'done'::text])))
);
CREATE TABLE public.events (
    sequence bigint NOT NULL,
    stored_at timestamp with time zone NOT NULL,
    partition smallint NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    customer text COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    event_id text COLLATE pg_catalog."C",
    occurred_at timestamp with time zone NOT NULL,
    user_id text,
    properties text
)
PARTITION BY RANGE (stored_at);
CREATE TABLE public.instances (
    session uuid NOT NULL,
    role text NOT NULL COLLATE pg_catalog."C",
    instance text NOT NULL,
    lock_key bigint NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat_until timestamp with time zone NOT NULL
)
WITH (fillfactor='20', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');
CREATE TABLE public.interventions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    external_id text NOT NULL COLLATE pg_catalog."C",
    action text NOT NULL,
    note text,
    status text DEFAULT 'open'::text NOT NULL COLLATE pg_catalog."C",
    outcome text COLLATE pg_catalog."C",
    score_at_start smallint,
    level_at_start text COLLATE pg_catalog."C",
    score_at_end smallint,
    mrr_minor bigint,
    mrr_currency text COLLATE pg_catalog."C",
    created_by text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    closed_at timestamp with time zone,
    CONSTRAINT interventions_check CHECK (((status = 'closed'::text) = (closed_at IS NOT NULL))),
    CONSTRAINT interventions_outcome_check CHECK ((outcome = ANY (ARRAY['saved'::text, 'lost'::text, 'no_response'::text, 'not_needed'::text]))),
    CONSTRAINT interventions_status_check CHECK ((status = ANY (ARRAY['open'::text, 'closed'::text])))
);
CREATE TABLE public.outbox (
    id bigint NOT NULL,
    partition smallint NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    account text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    customer text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    body bytea NOT NULL,
    at timestamp with time zone NOT NULL,
    published_at timestamp with time zone,
    CONSTRAINT outbox_kind_check CHECK ((kind = ANY (ARRAY['alert'::text, 'held_alert'::text, 'event'::text])))
)
WITH (fillfactor='85', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.partitions (
    role text NOT NULL COLLATE pg_catalog."C",
    id smallint NOT NULL,
    owner text,
    session uuid,
    epoch bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    watermark bigint DEFAULT 0 NOT NULL,
    watermark_time timestamp with time zone,
    stream_created timestamp with time zone,
    rules_hash text COLLATE pg_catalog."C",
    last_checkpoint uuid,
    received bigint DEFAULT 0 NOT NULL,
    applied bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    late bigint DEFAULT 0 NOT NULL,
    dead bigint DEFAULT 0 NOT NULL,
    suppressed bigint DEFAULT 0 NOT NULL,
    CONSTRAINT partitions_check CHECK (((owner IS NULL) = (session IS NULL))),
    CONSTRAINT partitions_id_check CHECK ((id >= 0)),
    CONSTRAINT partitions_role_check CHECK ((role = ANY (ARRAY['engine'::text, 'archive'::text])))
)
WITH (fillfactor='20', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0', vacuum_truncate='false');
CREATE TABLE public.risk_scores (
    id bigint NOT NULL,
    partition smallint NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    token text NOT NULL COLLATE pg_catalog."C",
    customer text NOT NULL COLLATE pg_catalog."C",
    at timestamp with time zone NOT NULL,
    score smallint NOT NULL,
    level text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    factors jsonb NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0.1');
ALTER TABLE public.risk_scores ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.risk_scores_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.stripe_charges (
    account text NOT NULL COLLATE pg_catalog."C",
    charge text NOT NULL COLLATE pg_catalog."C",
    stripe_customer text NOT NULL COLLATE pg_catalog."C",
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.stripe_links (
    account text NOT NULL COLLATE pg_catalog."C",
    stripe_customer text NOT NULL COLLATE pg_catalog."C",
    customer text NOT NULL COLLATE pg_catalog."C",
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.stripe_pending (
    account text NOT NULL COLLATE pg_catalog."C",
    charge text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    body bytea NOT NULL,
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.stripe_secrets (
    id uuid NOT NULL,
    account text NOT NULL COLLATE pg_catalog."C",
    secret text NOT NULL,
    label text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT stripe_secrets_secret_check CHECK ((length(secret) >= 16))
);
CREATE TABLE public.suppression_key (
    the_only_one boolean DEFAULT true NOT NULL,
    key bytea NOT NULL,
    CONSTRAINT suppression_key_key_check CHECK ((octet_length(key) = 32)),
    CONSTRAINT suppression_key_the_only_one_check CHECK (the_only_one)
);
CREATE TABLE public.suppressions (
    account text NOT NULL COLLATE pg_catalog."C",
    hash bytea NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT suppressions_hash_check CHECK ((octet_length(hash) = 32))
);
CREATE TABLE public.unwanted_events (
    sequence bigint NOT NULL,
    claimed_until timestamp with time zone
);
INSERT INTO public.accounts VALUES
	('acme', 'acme', '2026-11-23 02:38:12.07719+00');
INSERT INTO public.api_keys VALUES
	('26d87172-cd05-4f33-94ec-e64d10956836', 'acme', 'secret', 'sk_AlTA0eLH', '\x0a0b452c4906d9e9f56fc208bd23c835ee7be9ebc880d1551541ee04c906cd2b', '{}', NULL, '2026-11-23 02:38:13.973524+00', '2026-11-23 02:38:14.089+00', NULL);
INSERT INTO public.customer_states VALUES
	(11, 'acme', '=hVWBSQJJEP2VSQVX2NAM4KJFUIEFIKGIM', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-8', '\x019ecf0000019ca69c7530ce4171605bc41d20001f7265706f72745f6578706f72746564fdc498cc0100cfe4f5e801c40c0c0765070a06070e0774072fc400c44f952f4309366cfa87f2b209200cca5964bced0245108c9b938903e2a13d9cf40186ea16583dc578ebc7e6e902aee437c1697fe13a1130a9f25901faea035027fcb6f7949bfd194afdfd74ee8b8b880bc0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(6, 'acme', 'customer-0', 'customer-0', '\x019ecf0000019ca6b1b7c1cf000000013cd131ccc42d06002096f60408cccc021f7265706f72745f6578706f72746564bb910400b9950c0cabdc030efaa3010aa9f02dc457b8010702060702070007030702071407050700070c071006070307000703070005060705070706060704070307070b0b0507030b0406070907020711050700071007080507020507060707060505071006070007000702c4120b0b0606060b010507100700070106070006c47499fa9b14e2b489fdf1b209ffdbc761f8395095451c6bdfb32b4bb94fb6b2a144d36fda45e8521dd88648aa9573012b94abe1eeb73b26829e196962050edf810ac6406920dec2b325a00fc1e3264185fa2e86294c9719941546ab8c8ff0b400bf6b91141bb721869eefae83a63c2d1fdd3020dc0792ce0001e16200c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(9, 'acme', 'customer-1', 'customer-1', '\x019ecf0000019c87db4cb7cf00000001214f9029c4251f7265706f72745f6578706f727465640008ba86c56b20dfc3e4140cfed4fb3d00bac59524c4120407140731070e0718070a070c0716072706c4020736c47758f1b211fe0181c791b309e8042ccd2113bc8605e388f5a643b0bbdb08b22d48683ab3c6d4021a0fe5883b9fc2d803ebb2fd55c9e6de9e046996f6c34d0ca7d801bf252644bd24a4f802faa33f31a1b1daa10330506e7dc431d7c20521cd5be70e13b0a20971f1c71212f1c138c69fccf0751ffce2f80192ce0d71433a01c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(11, 'acme', 'customer-10', 'customer-10', '\x019ecf0000019ca6a3a30ece44ffd645c41c0000208eefa9241f7265706f72745f6578706f72746564b2eef9f902c40904071207d80105074dc400c42e4a1c7d96a93da484f2b209d5dae26e2ccf97d3041ba1de39298bc9973053a33875872ee6187a61a061ce45abd011c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(8, 'acme', 'customer-11', 'customer-11', '\x019ecf0000019ca69e2c5ccf000000013927cefac42100000ad287945320d7d285231f7265706f72745f6578706f727465648582e2a202c40e040742078a010719070807370705c4020720c465eeccc640a8478a87f2b2094057b452d544b8d20ac632bd629af295be04ddbb3c59ba1fa3fb1ee51b417283cdd1a006735d3b8ec263a9aa02c67f585a87cdd3e90c3fef34e90b57ccec0150d3bd2a7f07cde673b9976b6dd096e7d88601435997fb6bc0b869c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(1, 'acme', 'customer-12', 'customer-12', '\x019ecf0000019ca6a64663ce5195f252c42120000089a4341f7265706f72745f6578706f72746564f49580d50106a98088e002c40710070a07540715c402070cc45044015d396f28f782f2b209f7b2e77e1553810587fa9808df84d7014789c0345219820110df957f753295ec02d72c0cf7ab72a19e13ba8d48b067d7b09605a10de7d16e1099882d4dc7fa2a726ef4940bc0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(14, 'acme', 'customer-13', 'customer-13', '\x019ecf0000019ca69da84bcf0000000106490219c42200001f7265706f72745f6578706f72746564d3b284a7022080d3dd260ac6fec1e40dc40a0407a90107130700074fc402070dc4419edd76ed7700ab87f2b2091f78076330e9ece125896eab85c7bdcafa04959319c65528ff46cb17395a8d65aafa11ba214db2c0f28c93191d3fd12e1c13b599b601c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(7, 'acme', 'customer-14', 'customer-14', '\x019ecf0000019ca6ae0955cf000000014d586902c41e00000addd40320ff9d071f7265706f72745f6578706f72746564fcd2cc6cc40f0c073c0703076307110708070c073dc400c473fb62af44ab3afafef1b2091f1284288da03c8f570ef0041d77c308ae7d90b28805248f4c2c641e9cee0d286ff9a88d0deba201e2f8f8a9675da1b616108c5c7842dd98b404802fbbac9a6d9aba02acab18b0f704d5ab036ce9fca58e78a7f80dff68f7744b78f38903aa14568c84859bc29402c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(4, 'acme', 'customer-15', 'customer-15', '\x019ecf0000019ca6a763afcef869d665c426080000fcdd381f7265706f72745f6578706f72746564f4878eaf01069bb1ab1b20efa5ade902c40a040763075d0717076306c402072dc45b5c78ddb931f7ae82f2b209982e8fadc44ea1079fd0ab69b9bd80b516b23136e16caff6bf03628e35fabe54aec80673332245e43599fe0a971be335284bbad90562e3f336a42ec1af161054bf7f4e8bf450729c35895f5fb893b601920001c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(13, 'acme', 'customer-16', 'customer-16', '\x019ecf0000019ca6b0ec4fcf0000000119466145c42100001f7265706f72745f6578706f72746564af9ae4640896d485aa0120f3a9b262c40a040737079a01071f0724c40407180718c44b4823cdaa8ab1bdfdf1b20970d9b6cbf8379df30c94a5bbdb616480e215474ea73f97738acc0c3832d8743598b5b907b909da9008eea4e308ff5334c898cff08154004f6142ab86b2c38c0192ce21da774501c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(10, 'acme', 'customer-17', 'customer-17', '\x019ecf0000019ca6ae3889cefee9b32fc42d000008bc870820dfd8e185021f7265706f72745f6578706f72746564a48295c8010ed08cbda1090aa0f7ea8703c41004079501076a0705060706070a050700c400c4736ba7c3647724eefef1b209de3ab817740584018af39560f3dad905a966cfd1929084bb210ed22aa1177a9c8218e3736477f44ca3cd01b004c49d0073ed3d21b46e61ab3cbb81026b5f4bda80ffd5e9028632ef45fe7ef1269b8f72baee08b63f7251b1c0b168cacf9101eb9178acf6bceb933292ce000203bc01c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(3, 'acme', 'customer-18', 'customer-18', '\x019ecf0000019ca6ade1d9ceb43d6f84c425080020a1f7051f7265706f72745f6578706f72746564fbff01008aeff4e2010adef8f8be09c40d0c07190736072b050709078601c400c45f1ce7fe908ff384fff1b209983447ea7a2b61c9676b7de585217ef0f58cba9ba005cc33ba401d10db9a0677484888e409dfcd0ce58a45bb72c3e0f90958fbd43a97b4a51ead30a313ecd7c5d202da71a5259bb484851ebd0eab45964a8bea7a920002c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(0, 'acme', 'customer-19', 'customer-19', '\x019ecf0000019ca4f7d04dcf0000000125349110c40d0a0000fe958e2a20a2c4f4ef01c4090715078901074d0731c4020736c439d7f32739b867a9dff3b2098da703e77f8bf9b105ff8ddf7296fcd9da1e359961a27ea8eecc11de95c0dc3492f4c00b6879310d536fce84eb01c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(0, 'acme', 'customer-2', 'customer-2', '\x019ecf0000019ca6b0b006cf0000000138bd1c9fc4251f7265706f72745f6578706f727465640008f3a20120e1c1f62b00aacfad4506879788b90ec40c040716072607280bb401070fc400c46cef8d1bac64bcccfdf1b209e110c22486c415b6443bdd977fd7cf056dfd6dd3e58bb4bf070ec34fd23bc3f7b0016ce76a4a994bb3c9097f1a14aa5bcdb3d41b92c5db39da8198c40cbd792bf79e20a008fd6002d01995d2f903bd279543491d98f3b601c8d3bf22d9d586884592cd517302c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(0, 'acme', 'customer-20', 'customer-20', '\x019ecf0000019ca6b1aeffce4b8215f0c41c1f7265706f72745f6578706f727465640020a695dba90300c4b0f33bc4080c07f40107200716c402070bc43e9a39a2e6e4e98bfdf1b2092d976e36fb7501d787636d45829d06876ff268479cd1b83654483d566854b7d5074caf8f2c22e6fdb505301019e11477dede09c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(3, 'acme', 'customer-21', 'customer-21', '\x019ecf0000019ca6a62d28cf0000000145af73c0c4270c0020a4c0990e00c8fdba381f7265706f72745f6578706f72746564d6db81860106a689baeb02c4190705071e073b070d074a0730071805070207020506070e070ac402071dc48ec445d96f4f80fd82f2b209969547224b25d2e801b41fa0ad701d879d07011efb867bbff5cf0d6e7f3a6a43fde1c3031160fa769a50d3f6103c9091e213aac18d0be72d9a476d8cd881064a96f2cc6be8952648c17dbe4347a67f2cc1d9893283ab9001d0fe81327b6fd814356f80dc50d887363f5c06a2ba40bee1038a8985c0edcc96ff02fdf0147cc5e8e5db02c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(6, 'acme', 'customer-22', 'customer-22', '\x019ecf0000019ca6ae3615cf0000000119d87420c42120001f7265706f72745f6578706f72746564ff9c3508a796aead0300fab4fea00ec4080807f301071b0710c408070b071007080707c45a33af2bcc1553effef1b209e8a51379cca9e806a86711575891d3893697937d6d8442ff701e0dc4ce4063c8d405a0dc329228ddbb9804484b82faaa17b0ee0d877b830718db969b62b3c891cfe083c8ba38f4a9b61de35ebc9b3792ce35b8d9a602c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(9, 'acme', 'customer-23', 'customer-23', '\x019ecf0000019c995b586ecee3b746eac42320001f7265706f72745f6578706f7274656486fce5ba0100fcce91b30708e8c2e5af05c409040b69075507050718c4020719c449204087ef17829dd1ffb209cd714ccffa9a9bda1756673f0dcd9ea21a04436d2103b6a99913fbab84e28070cced0117411cc56d6bf9fa0585f5cf3d98dd869c5e230f702f784ce6845892cee3b746ea02c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(12, 'acme', 'customer-24', 'customer-24', '\x019ecf0000019ca6abb5dccf000000012701c341c42100001f7265706f72745f6578706f72746564e0afdb0b06b3d2c7012081e3ecbb05c406040703078201c404070e0725c4382084b351d6eb9280f2b209c4e5b6fc6582f6bf01dfa74366a7e5c7199039a06e1f0df0fd1c26dda60c6c58bccc3cc6a08bdb914aaae7d201c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(15, 'acme', 'customer-25', 'customer-25', '\x019ecf0000019c91453293cefc57368dc42c0e0008ebbddf6120a58a95151f7265706f72745f6578706f7274656491cf90f30100cefbb5130c9edaa1e50cc41407430704070c07090722070d0724070c07090701c400c47ffba6e49163d292f587b309bc98e9c17e40bcc10cf8d165f27677e2da029571fdfee270b0cf014d7326b6cc5ace9e03c7773cfb5ec7d4cc0227fa0c98a51edb9208fec68d8b0fa19cc003650646ab91959bd908051082d28cf0d4a803bc71be260dc79abe02a194b33f0547a86f48c7019cbb08ddac5f427664464bb8f1ac7192ce0c37deeb02c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(2, 'acme', 'customer-26', 'customer-26', '\x019ecf0000019ca6aa770fcf0000000114593f35c4301f7265706f72745f6578706f72746564000eb9812f0ce391e70620d895b0e30108b38acc89010a93b51b00c8ce9efc07c40808078501073f0701c404071e0705c469dc24527b394ee480f2b209357ffc9e53088206ad3857db90e566912255226d77db6e7fc145e8c57bab8d1d87dda1ea0b81f2bc0e7ee2fe211ee9cf6b65a338300024eba502ee3b1c31cfa5c1031565da8fd3f9cdcb8201f63fcf34151283e028d6c0a34f8bd89efd3f92ce2e8499a702c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(5, 'acme', 'customer-27', 'customer-27', '\x019ecf0000019ca6b05097cec9f61a27c42b0c0008cfb21f1f7265706f72745f6578706f7274656488d39a7320dcb3aa0200a1f0b3950206d38ac0c409c40c07400507350767060724072ec4020721c4628e967659fa8ae5fdf1b209bb69f8b7ea2382040f9d4820738fc9df0e737151e356869926cb6ebc1b5a84f1ae0c3772fd0372a09092173cfb638f1d8dce3e1bdb54fce901eebe089028a68ef41e81e70a12d005c1ecccdbb67b1d4daf72a659c0810d92ce0007d94f01c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(8, 'acme', 'customer-28', 'customer-28', '\x019ecf0000019ca6b1632acf0000000101da6f0bc41520001f7265706f72745f6578706f72746564ab9d12c40514076e0765c404072a0702c44ff60651d8bc019efdf1b209467e2c946e34ab020018834ecd7906e739f31672cfa201dc3055d001298103dc60d7d38ccff0e3189426a4f86ef094861714e4b388ea599e95bf01a374cc710b0db6ff18c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(11, 'acme', 'customer-29', 'customer-29', '\x019ecf0000019ca6ae803acf00000001199759c7c41300000cd0b2c22120e4d8d4b60106a78da88d01c40904077a079501072b05c404071e0712c4520bd3224b859fdcfef1b209d3f01891d28395a504617179ac99aadeb0177897b3be59daa38b1237a11348a8c6e28d0faef90cb3dda6829d0a1a0993944948cc2263caf9f980c9cb88696299ccb15d5acbf56fc0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(3, 'acme', 'customer-3', 'customer-3', '\x019ecf0000019ca6a1ddfbcef2557d5cc427060020fa868f790ef2d19fac011f7265706f72745f6578706f72746564b2b3f63f00dd98afb00bc40d074307720711050703071c0748c40407290700c465b29ce24940219885f2b209d1c27ff3c8fab2c00fe65e3730a2528c86162d5702393893cdd0030eb901396e1a94ae049878f2ee2e4fcc1879db9c0d0d7397b2016adbf2c8f5bfd3e60619c23f61e2f987b910bd78e7384c33a1e3a1011ea5cbb546e39b8010c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(9, 'acme', 'customer-30', 'customer-30', '\x019ecf0000019ca6ad1d15ced882e62fc4251f7265706f72745f6578706f727465640020eddd21009bbe1b06c28fe981020ca09e99f401c40c100717070a07070707079d01c404071d0707c474cfc19b92fe36b7fff1b2091dd7b7640336a804ac89204a436cc3034313d884aa669d01681598d5a4e5d3e5051e5702b4da02bae402be2b14540301fa9b02394dc2e73a4b8fa5023f3cf726937edff313c29010eb30f6e8960f06936afa5daa8e8a10178a6853bd37c0c66a9818d7fa7ab596eb32c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(6, 'acme', 'customer-31', 'customer-31', '\x019ecf0000019c959ffceccec1ff8d3dc42820000ea8deff470aa48db8ce011f7265706f72745f6578706f72746564c3c4cec00500aeeaf7b804c4050407790720c4040715070ac440650488cf1baaafba83b309c6a6ab56545ecf9b09bba666c24564f584123dcfdd556b25b7d3072dde9bbd4a01f95d289b4a3d7709b1985aa1e54ffae3a2bae948c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(3, 'acme', 'customer-32', 'customer-32', '\x019ecf0000019ca6ae9152cede16dd25c41720001f7265706f72745f6578706f72746564a5badbf00dc40408079401c4020728c42604750fec40f0d7fef1b209d2ddca8f70b6cb07e050aa81a8d38a9321a05e9d608ff6849bc201c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(0, 'acme', 'customer-33', 'customer-33', '\x019ecf0000019ca6b0db64ce3358b88ec40d000020f3e0f081020efef4b341c40904076a071f07040756c400c4382c4f8c9bd892c1fdf1b209f5ae92e16d85c09418d5f748536a08b6b707db14c7a00f169ab501f84b680d5933cdaf087347de68fdd9b0990bc0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(5, 'acme', 'customer-34', 'customer-34', '\x019ecf0000019ca69ea935cf0000000128fea63cc428000020a0949e4c0abdb6c38e011f7265706f72745f6578706f727465648ec0adb70d0ed1c1ebb503c40704072907390757c406070b07050716c45dd57ffed16a34ea86f2b2097ee99a64e66485e109d1d401c58296ec950d764d82ee1fc4a989056be1d3770f9f8dc80e063163307c3ae994046b765583a40990c51b46016d51653daaa22b32f5a5462f55c5c5820175536d00a957c98538c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(2, 'acme', 'customer-35', 'customer-35', '\x019ecf0000019c91a2c001ce6cd6406bc4022000c40504070a0705c4020712c426862cd2d89ab09fc587b309457ae3780c9ddef8022a247dcf9183deec01d408d44708af81d46ac0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(15, 'acme', 'customer-36', 'customer-36', '\x019ecf0000019ca6a897d6ce45d2d36ec42406001f7265706f72745f6578706f72746564fdab420ccdfbfe0e00b0addf0720b6c3b114c40d04070a0709079701078c010700c400c4473325d1b24f79df81f2b20928b30c22b275bf081109ad62c99fd0f501867524b9b1cdf27e4231a0e033d283ce029dde7b006d1b95f421298097fc0bb283b31fe85edfefa6f6d84dc0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(12, 'acme', 'customer-37', 'customer-37', '\x019ecf0000019ca6a0d9f7ce45960231c41f060000a5f9082080e6e5661f7265706f72745f6578706f72746564a28ad746c4120407390b2607440724070605073607260702c400c46b877c3cb08056da85f2b20919d7cd019cc593014f23888e1db099940d3cf5f13a4f0e838609100ddc62d4d7970ff65217167ba9bac70f5ea09b077ce7acba080f3761436b138af7019d090ba1a57ef8303e8f3a6410c488b60c8b36cb79f104c68b09ecaef7bc9fb8e78a01c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(1, 'acme', 'customer-38', 'customer-38', '\x019ecf0000019ca6afeca4cefa0fe7bac42a00000a8bb748208edb040e8acbad2306c18ffbca031f7265706f72745f6578706f72746564d6e2c9e10bc403140711c4040720070ac46481eadd3cbceefefdf1b209af8dcc09a902a3098ae0b99be1554d6b1c99ed4cf472889dc8b5bd2d36393775d94a88e90120f961038bafd0bd04d786d2845312c2027400442eb829e7251e33b1cebeaeeab93a18fecd860105c0bb7d9ce410948512ef9f43c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(14, 'acme', 'customer-39', 'customer-39', '\x019ecf0000019c90c13e85ced2a35000c41b1f7265706f72745f6578706f727465640020a8feb73608b08cbc33c40f04071c0720070607070702070c0741c4020726c465477bbfb5da72dab888b3094874e5f60131f3fb060fd4d93c0201a4cb0688a2a9099a11c07e3c4fca21538bd4f6016babfb878e69f69e02b55a9b235c44f19501b66fc560cf8e9c9703455511e2e8d1d99f02c85fae505c16d3d70c6c6e2661ab9b84d9b10192ce0d3d055802c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(2, 'acme', 'customer-4', 'customer-4', '\x019ecf0000019ca69b4fb2ce3c896698c41c1f7265706f72745f6578706f727465640020f2f4a60506a6d8fede03c40a04070007cd0107140729c400c436d1f2d5a6472dc588f2b209a2311e33eb85f456f0e9a673491593e52dd8de78b1eb36cef6043c601e563b3ac7e3092f654f81c4eeba68c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(6, 'acme', 'customer-40', 'customer-40', '\x019ecf0000019ca6a588f0ce217744b1c41b1f7265706f72745f6578706f727465640020ebee0808c69ad48b02c40308072fc400c425b7881a8d0ed6a783f2b209ab3b652ec7669101b908f5f6c4c5ea830bc8c63403cd4cbe9d1792ce217744b102c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(9, 'acme', 'customer-41', 'customer-41', '\x019ecf0000019ca6ae0398cf000000010c6be386c4250c0020c599965600eba2841c1f7265706f72745f6578706f72746564c78bfe6d08e999fe4cc412072f070d073d07520720071d072207060704c4020731c46fa17d3287f519fcfef1b20979cd65b138cdee830b91db9b1f904ba7cb039c73eba43a12ff890e1541e75458a7abed09514c1e42614ffadf08cd371ed320dafce40709ff4c05fd35a6ef06e7edc6478c8e8993088e98e3916d19aa8102f91f9dc7a55cdfcb01c7fc62534bd5d793c90192ce25a5b0e000c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(0, 'acme', 'customer-42', 'customer-42', '\x019ecf0000019ca6a6ef3acf0000000141f536b3c41d0c0020fe8f010084f1221f7265706f72745f6578706f72746564c7d208c4040c07b301c406070b07190705c45065963a2ea969cb82f2b209208a75cf32ce13e0e1ed2fbddcbb04a49b1762d3058e0150a932ebe6b8c78b28aea180ab2c1881dc22c4d09e9d1f52d09b9501efc7e7976029e4d928e4d7366884b9fdf440c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(3, 'acme', 'customer-43', 'customer-43', '\x019ecf0000019c9b1bb2a9ce421b9850c4210c001f7265706f72745f6578706f7274656492c6d51a20a0909ace010a8491d443c40a070d0775074907060755c400c4415d166aada869d6ebfdb2094c616092bec3f7b403319fb09c72ccbab21a82958f037100bfd408529e758f7247f68a083f72650e29bdb0f10150307ca9c9c5dba013c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(2, 'acme', 'customer-44', 'customer-44', '\x019ecf0000019ca6ada3eace48aa6ab2c41b20001f7265706f72745f6578706f72746564f6b04f06bca4dac404c4090c072c0773075e0724c400c448c0ff7374492794fff1b20907209fb9b11e950ac1ec7c7da714a001646f6e8feb74c0aa0ab7549ca75fb692f419fae93abb9a0aa5a015918947b40e3beed208ad712e350b159e9708c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(5, 'acme', 'customer-45', 'customer-45', '\x019ecf0000019c92eb0e0ece9a45b205c40820000085e496d209c40b04071d072b070a07380724c402071bc44131aba0ab0b2b939d86b30906010f08b24d98970717b2bf6e2ee790900a6e7b99aaa86b80d9022c161cc1f14f808c0dc735b3bbe108cfc4084a94ce7330c5ecab74c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(12, 'acme', 'customer-46', 'customer-46', '\x019ecf0000019ca6ae1471cf0000000146eaad1fc4112000069eb34a08b182896000c9cfa3bf0ac403100747c402071fc4635bae5472aecef7fef1b209646061db21eef902cee9a7e8d5e6810401e116911061c902b2bb3446a8a390023915a8069130f3a30c5cda07bc50f1a3890403bbb65119abf9d0141d131d980d7e869e9301b9fa9b676442c49f9301e58c5ee6741ba49a0392ce0c14dacf01c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(15, 'acme', 'customer-47', 'customer-47', '\x019ecf0000019ca6a59a41cf00000001192ba6fec41d000020e9fae7ca011f7265706f72745f6578706f72746564b6cdf79301c40a04077307530712050707c404071c0714c449d4a9a6801ba7a383f2b209d0d610706df5f0fa195db5d59e1e0ce1f712db9bfb74f27bffcb04e00787d5f83ca716477a150a73a5ceab0245230b9cadd1a0f072674b838bf28fe58479c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(14, 'acme', 'customer-48', 'customer-48', '\x019ecf0000019c95f86df5cefc550197c4271f7265706f72745f6578706f727465640006b9d5a01c08dc97fdfa0220f3f88e070af7ea82d80ac4040407ef01c406072407020702c44ad37d8831a73f8b8d83b309d7ff255854ecf8ce039f666c9d7d4d96c130033e789c2417cd74a7e4f40ca8e6e48e9901ae7bf12dbc6df3fe157dfa514aa4bd938d07e59eb23afb7891921792ce32e7769500c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(1, 'acme', 'customer-49', 'customer-49', '\x019ecf0000019ca6af0453ceaa6c3e50c4200c000aeae84d1f7265706f72745f6578706f7274656482c3efc9022090d7fd6dc40907bd010b3d07260720c406070e07090701c45a98b723c3ca13bafef1b2093a25668df20bfb093d88d79e0530ce9c2a16af14edefc2f9890e7ffa39d7d38bac053a69b0e45324db82093e57a9bd29ddbbce0737a292bf2d9897ff1062c434b8b5aee68f41f75edda5e64ad3ab13c0c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(5, 'acme', 'customer-5', 'customer-5', '\x019ecf0000019ca6ab882dcef4032b7fc42a060008b4b12520fdf0b1731f7265706f72745f6578706f72746564a997a99e030a80d9fe0c0ce3ffaf19c41007400772070207240740070a0704070dc400c484d4eee7dbf89c9e80f2b209fc024fff42f3e504859cb0bbcb70761c385fbf5ffdcfe10e7ef873a974d2a3d519639cc0157863f78601b65252d5e959fecd08bb0f65f322e899e20e72937eda8d23eff702a2ac692797c297c101d64a15811e70d31372cbf919c500df9f03047eac18b96fc90df8acdf6bbf1490bf3503d592796ba1adc27b92ce000958b401c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(12, 'acme', 'customer-6', 'customer-6', '\x019ecf0000019ca6af8fa7cf00000001350de76cc42420001f7265706f72745f6578706f7274656489a30906979b150c9aeb973100aad4889902c40c0c0786010707072a07480715c4060b0b070b0718c487fc663d3ca1ad96fef1b2092c5cda4ec9a49801d8571e84b2a5dc02f0fb1b6ce896b20894c668999905bd9d0605cbf2c93852c4e7172746c7955afdc29602518533224853fbfe09eac849981384f2c410cee7eccf0b13e69405856d106b6ba2a1ea093cc7b86b6ffb8deb0489d5118a04e886ed492ed39ee43a9f8be18d01ffe426abe926b49816c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(1, 'acme', 'customer-9', 'customer-9', '\x019ecf0000019c9d7097e1ce3577ae86c41d200008c5aabc83011f7265706f72745f6578706f7274656492f7e3da01c4060407c901072ac400c426d578b017bf2d88bafbb209f44aac5b25e083ea10f780994b6e6dc1801ca2b8eea9cc75c8f50992ce106f154500c09090c0960000c293c0c0c0c0009500000000cfe10ab6a94e56d1b4c2', 0, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00'),
	(14, 'acme', 'kunde=2E7=40=C3=BCber=2Eexample', 'kunde.7@über.example', '\x019ecf0000019c87404429ce269a5537c41b00002098e09f421f7265706f72745f6578706f72746564e38ee15fc40b0407240715071c07070749c400c4381fe96877b911b29692b30912a64819f044b4bd085ee9bfe40af992a9055a1055fcec45e2f7066d46d1918dd6999002089b9898d18d9fd510c0c09090c0960000c293c0c0c0c000951e000001cfe10ab6a94e56d1b4c2', 30, 'low', 'active', NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00');
INSERT INTO public.customers VALUES
	('dcc66e18-3f38-4a4b-ad41-833ab38df0c1', 'acme', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-8', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4cbe6d98-2b55-4c3e-a15e-919b71700419', 'acme', 'customer-0', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('5e5de637-2be6-4259-b487-795448e273c0', 'acme', 'customer-1', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('62fbc5b2-24b6-485b-9040-6d3dee218f9e', 'acme', 'customer-10', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4a17d403-c658-4b4e-97bf-56698716da5f', 'acme', 'customer-11', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('7d0b0cb3-177a-4937-a36d-7fe5a48351bd', 'acme', 'customer-12', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('e2e9f4a5-2d4a-4c59-9e86-018ebcbaeb0f', 'acme', 'customer-13', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('ded16f16-cf2d-4655-9248-fd7062c262c9', 'acme', 'customer-14', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('dcc6cfff-b46b-49b2-9869-75605623a127', 'acme', 'customer-15', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('d1857581-3930-40c2-a945-4c82e76ddfb5', 'acme', 'customer-16', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('f054f009-5517-4dcc-a527-23783d08cbd5', 'acme', 'customer-17', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('01af5764-f923-4246-802e-4033c3ba3395', 'acme', 'customer-18', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('dc2413de-2f6c-4b75-bbd8-e147bdc9d8e2', 'acme', 'customer-19', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('c6863b73-2202-4d51-8a92-9f65dceec9cf', 'acme', 'customer-2', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('a232f993-b101-4fa0-80f1-4973e3fe9db2', 'acme', 'customer-20', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('6cd1a79b-5bef-4bde-9749-459a8d6dfd83', 'acme', 'customer-21', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('78e0efdb-a3b6-4019-ba4e-4d793b3155fc', 'acme', 'customer-22', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4b851557-6de1-4a8e-9cf6-aa8d87e9a977', 'acme', 'customer-23', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('b7eb1547-ddc0-40fa-969b-060d7087f7f1', 'acme', 'customer-24', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('bdf79d05-5999-4dc1-9f25-8865fa54a4ec', 'acme', 'customer-25', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('d15705dc-8757-4b3c-8d92-927cdd15dcc9', 'acme', 'customer-26', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('835f5c67-e378-4a48-9795-8b286c062e32', 'acme', 'customer-27', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('0644b82a-6e97-4e37-b442-0724d23dfdef', 'acme', 'customer-28', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('0d69f3ed-d681-4b20-9951-a9424aca7808', 'acme', 'customer-29', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('5eb7705d-182e-4b1c-9318-aa4d705b88c9', 'acme', 'customer-3', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('3c84ccd2-46ee-4a1c-afa4-97af85c35964', 'acme', 'customer-30', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('d6d977c9-9048-4168-9107-d7b9b837846d', 'acme', 'customer-31', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('bc77b489-1e6a-4bd9-a1bc-8d088dabc090', 'acme', 'customer-32', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('f8e72741-6b6c-43ca-8a70-95767cf42566', 'acme', 'customer-33', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('d6711006-6497-410b-95a9-3da37b7fd208', 'acme', 'customer-34', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('5dec8316-4d20-4138-8daf-31729a2dd807', 'acme', 'customer-35', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('d2e14068-af47-4a32-9f3e-e5ef7771ff7f', 'acme', 'customer-36', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('bcd3c9d5-4f30-4921-83e9-3b2976c22b61', 'acme', 'customer-37', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('af4f1185-e688-4f22-a733-2d0746d81cbc', 'acme', 'customer-38', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('ebb19843-6ef8-4005-89b8-8b67d77bf7ec', 'acme', 'customer-39', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('e084cc9d-313f-4c0f-ac6f-9f83c3203abb', 'acme', 'customer-4', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('fb2301af-e7d2-49bd-8b53-e88257452505', 'acme', 'customer-40', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4fa12993-01d9-45e0-b735-7e90b3bb5f4e', 'acme', 'customer-41', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('a66dc49d-dd38-4575-abdc-ebd8c104c1c5', 'acme', 'customer-42', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('b38e5db0-d95f-46b3-ac29-948409b55817', 'acme', 'customer-43', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('a2450b74-2b7b-4bf6-b625-048cbd4e0a7a', 'acme', 'customer-44', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4201aafa-c53e-458a-9b77-23b7d5bffbcb', 'acme', 'customer-45', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('7191a48b-ae54-4014-b79c-727a6da50fa5', 'acme', 'customer-46', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('cfa0adeb-9581-4623-a4d3-201cdecec7ff', 'acme', 'customer-47', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('6ad9a545-e6ec-4720-9109-aee66f1234e3', 'acme', 'customer-48', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('9df8a77e-f20c-4ee0-afca-4b67a217ac6d', 'acme', 'customer-49', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('41c70e5f-84c9-48a8-9c2b-19392172d2d0', 'acme', 'customer-5', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('4b69a4b7-d363-4ab0-ac4a-9e02e126aa86', 'acme', 'customer-6', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('b0b41ef1-5ca3-43cd-9e18-e749d879d669', 'acme', 'customer-9', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00'),
	('1fa055b5-5b43-4cdd-9317-52ad95326c3c', 'acme', 'kunde.7@über.example', NULL, NULL, NULL, NULL, NULL, '2026-11-23 02:38:13.82318+00', '2026-11-23 02:38:13.82318+00');
INSERT INTO public.partitions VALUES
	('engine', 0, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 44, 39, 4, 1, 0, 0),
	('engine', 1, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 38, 35, 3, 0, 0, 0),
	('engine', 2, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 37, 30, 7, 0, 0, 0),
	('engine', 3, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 57, 50, 6, 1, 0, 0),
	('engine', 4, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 10, 10, 0, 0, 0, 0),
	('engine', 5, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 47, 43, 4, 0, 0, 0),
	('engine', 6, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 168, 159, 6, 3, 0, 0),
	('engine', 7, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 16, 12, 3, 1, 0, 0),
	('engine', 8, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 23, 19, 3, 1, 0, 0),
	('engine', 9, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 54, 46, 8, 0, 0, 0),
	('engine', 10, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 13, 13, 0, 0, 0, 0),
	('engine', 11, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 24, 23, 1, 0, 0, 0),
	('engine', 12, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 55, 42, 11, 2, 0, 0),
	('engine', 14, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 38, 32, 6, 0, 0, 0),
	('engine', 15, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 34, 30, 4, 0, 0, 0),
	('engine', 13, NULL, NULL, 1, NULL, 669, '2026-11-23 02:38:12.707+00', '2026-11-23 02:38:11.953+00', 'e10ab6a94e56d1b4', 'cf71ee93-b605-4d3f-958a-8e5e10435bed', 11, 8, 3, 0, 0, 0);
INSERT INTO public.risk_scores OVERRIDING SYSTEM VALUE VALUES
	(1, 0, 'acme', 'customer-2', 'customer-2', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 269 days"}]'),
	(2, 0, 'acme', 'customer-33', 'customer-33', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(3, 0, 'acme', 'customer-19', 'customer-19', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 268 days"}]'),
	(4, 0, 'acme', 'customer-42', 'customer-42', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(5, 0, 'acme', 'customer-20', 'customer-20', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 278 days"}]'),
	(6, 1, 'acme', 'customer-12', 'customer-12', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(7, 1, 'acme', 'customer-38', 'customer-38', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(8, 2, 'acme', 'customer-26', 'customer-26', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 300 days"}]'),
	(9, 3, 'acme', 'customer-21', 'customer-21', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 268 days"}]'),
	(10, 3, 'acme', 'customer-3', 'customer-3', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 311 days"}]'),
	(11, 3, 'acme', 'customer-18', 'customer-18', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 272 days"}]'),
	(12, 4, 'acme', 'customer-15', 'customer-15', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(13, 5, 'acme', 'customer-34', 'customer-34', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(14, 5, 'acme', 'customer-27', 'customer-27', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 276 days"}]'),
	(15, 5, 'acme', 'customer-45', 'customer-45', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 300 days"}]'),
	(16, 6, 'acme', 'customer-0', 'customer-0', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(17, 6, 'acme', 'customer-22', 'customer-22', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 321 days"}]'),
	(18, 6, 'acme', 'customer-31', 'customer-31', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 308 days"}]'),
	(19, 7, 'acme', 'customer-14', 'customer-14', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(20, 8, 'acme', 'customer-11', 'customer-11', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(21, 9, 'acme', 'customer-41', 'customer-41', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 269 days"}]'),
	(22, 9, 'acme', 'customer-30', 'customer-30', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(23, 9, 'acme', 'customer-23', 'customer-23', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 297 days"}]'),
	(24, 9, 'acme', 'customer-1', 'customer-1', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 278 days"}]'),
	(25, 10, 'acme', 'customer-17', 'customer-17', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(26, 11, 'acme', 'customer-29', 'customer-29', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(27, 11, 'acme', '=hVWBSQJJEP2VSQVX2NAM4KJFUIEFIKGIM', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-8', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 277 days"}]'),
	(28, 11, 'acme', 'customer-10', 'customer-10', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(29, 12, 'acme', 'customer-6', 'customer-6', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 275 days"}]'),
	(30, 12, 'acme', 'customer-46', 'customer-46', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 302 days"}]'),
	(31, 12, 'acme', 'customer-37', 'customer-37', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(32, 12, 'acme', 'customer-24', 'customer-24', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(33, 13, 'acme', 'customer-16', 'customer-16', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(34, 14, 'acme', 'customer-13', 'customer-13', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(35, 14, 'acme', 'kunde=2E7=40=C3=BCber=2Eexample', 'kunde.7@über.example', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 273 days"}]'),
	(36, 15, 'acme', 'customer-47', 'customer-47', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]'),
	(37, 15, 'acme', 'customer-25', 'customer-25', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 280 days"}]'),
	(38, 15, 'acme', 'customer-36', 'customer-36', '2026-11-23 02:38:13.821+00', 30, 'low', 'active', '[{"factor": "login_inactivity", "points": 30, "reason": "No login for 267 days"}]');
INSERT INTO public.schema_migrations VALUES
	(1, 'initial', '26345276a41b5d25e15f033c1f0c00e3c0b10661c1e564d25c161dc870c46234', '2026-11-23 02:38:16.187953+00'),
	(2, 'erasure', 'd344424997d3903be5ce884fdaf3b8287529144bd107235eacd330a29d5570a1', '2026-11-23 02:38:16.277534+00');
INSERT INTO public.suppression_key VALUES
	(true, '\x444271ca690e92b1689f5f66a5d7fe14b70634d4b410e619d131760dcce57419');
SELECT pg_catalog.setval('public.deliveries_id_seq', 1, false);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
SELECT pg_catalog.setval('public.risk_scores_id_seq', 38, true);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_hash_key UNIQUE (hash);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.customer_states
    ADD CONSTRAINT customer_states_pkey PRIMARY KEY (account, token);
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_account_id_external_id_key UNIQUE (account_id, external_id);
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_alert_id_channel_target_key UNIQUE (alert_id, channel, target);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_idempotency_key_key UNIQUE (idempotency_key);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.erasure_customers
    ADD CONSTRAINT erasure_customers_pkey PRIMARY KEY (erasure, token);
ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (session, role);
ALTER TABLE ONLY public.interventions
    ADD CONSTRAINT interventions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_message_id_key UNIQUE (message_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.partitions
    ADD CONSTRAINT partitions_pkey PRIMARY KEY (role, id);
ALTER TABLE ONLY public.risk_scores
    ADD CONSTRAINT risk_scores_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.stripe_charges
    ADD CONSTRAINT stripe_charges_pkey PRIMARY KEY (account, charge);
ALTER TABLE ONLY public.stripe_links
    ADD CONSTRAINT stripe_links_pkey PRIMARY KEY (account, stripe_customer);
ALTER TABLE ONLY public.stripe_pending
    ADD CONSTRAINT stripe_pending_pkey PRIMARY KEY (account, charge, event_id);
ALTER TABLE ONLY public.stripe_secrets
    ADD CONSTRAINT stripe_secrets_account_secret_key UNIQUE (account, secret);
ALTER TABLE ONLY public.stripe_secrets
    ADD CONSTRAINT stripe_secrets_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.suppression_key
    ADD CONSTRAINT suppression_key_pkey PRIMARY KEY (the_only_one);
ALTER TABLE ONLY public.suppressions
    ADD CONSTRAINT suppressions_pkey PRIMARY KEY (account, hash);
ALTER TABLE ONLY public.unwanted_events
    ADD CONSTRAINT unwanted_events_pkey PRIMARY KEY (sequence);
CREATE INDEX api_keys_account ON public.api_keys USING btree (account_id, kind, created_at);
CREATE INDEX api_keys_prefix ON public.api_keys USING btree (prefix);
CREATE INDEX customer_states_at_risk ON public.customer_states USING btree (account, score DESC, token) WHERE (level <> 'low'::text);
CREATE INDEX customer_states_due ON public.customer_states USING btree (partition, due_hour) WHERE (due_hour IS NOT NULL);
CREATE INDEX customer_states_page ON public.customer_states USING btree (partition, account, token);
CREATE INDEX deliveries_account ON public.deliveries USING btree (account, id);
CREATE INDEX deliveries_due ON public.deliveries USING btree (next_attempt_at) WHERE (state = 'pending'::text);
CREATE INDEX erasure_customers_open ON public.erasure_customers USING btree (erasure) WHERE (settled_at IS NULL);
CREATE INDEX erasures_due ON public.erasures USING btree (due_at) WHERE (completed_at IS NULL);
CREATE UNIQUE INDEX erasures_open ON public.erasures USING btree (account, hash) WHERE (completed_at IS NULL);
CREATE INDEX events_customer ON ONLY public.events USING btree (account, token, stored_at, sequence);
CREATE INDEX interventions_customer ON public.interventions USING btree (account_id, token, created_at);
CREATE INDEX interventions_open ON public.interventions USING btree (account_id, created_at) WHERE (status = 'open'::text);
CREATE INDEX outbox_account ON public.outbox USING btree (account, id);
CREATE INDEX outbox_customer ON public.outbox USING btree (account, token);
CREATE INDEX outbox_unpublished ON public.outbox USING btree (partition, id) WHERE ((published_at IS NULL) AND (kind <> 'held_alert'::text));
CREATE INDEX risk_scores_at ON public.risk_scores USING brin (at) WITH (pages_per_range='32', autosummarize='on');
CREATE INDEX risk_scores_customer ON public.risk_scores USING btree (account, token, id);
CREATE INDEX stripe_charges_at ON public.stripe_charges USING brin (at);
CREATE INDEX stripe_charges_customer ON public.stripe_charges USING btree (account, stripe_customer);
CREATE INDEX stripe_links_customer ON public.stripe_links USING btree (account, customer);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES public.accounts(id);
ALTER TABLE ONLY public.erasure_customers
    ADD CONSTRAINT erasure_customers_erasure_fkey FOREIGN KEY (erasure) REFERENCES public.erasures(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.stripe_secrets
    ADD CONSTRAINT stripe_secrets_account_fkey FOREIGN KEY (account) REFERENCES public.accounts(id);
