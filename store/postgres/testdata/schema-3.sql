CREATE SCHEMA deed;
CREATE TABLE deed.colls (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE deed.colls ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME deed.colls_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE deed.docs (
    coll bigint NOT NULL,
    key bytea NOT NULL,
    rev bigint NOT NULL,
    data bytea NOT NULL,
    fields bytea[],
    words tsvector
);
CREATE TABLE deed.events (
    pos bigint NOT NULL,
    stream bigint NOT NULL,
    version bigint NOT NULL,
    kind bigint NOT NULL,
    id bytea NOT NULL,
    "time" bigint NOT NULL,
    data bytea NOT NULL,
    meta bytea NOT NULL,
    sum bigint NOT NULL
);
CREATE TABLE deed.fields (
    coll bigint NOT NULL,
    n integer NOT NULL,
    field text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE deed.gone (
    block bigint NOT NULL,
    bits bit(4096) NOT NULL
);
CREATE TABLE deed.head (
    one smallint NOT NULL,
    pos bigint NOT NULL,
    stream bigint NOT NULL,
    "time" bigint NOT NULL,
    CONSTRAINT head_one_check CHECK ((one = 1))
);
CREATE TABLE deed.kinds (
    id bigint NOT NULL,
    category text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE deed.migrations (
    n integer NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE VIEW deed.readable_docs AS
 SELECT c.name AS coll,
    convert_from(d.key, 'UTF8'::name) AS key,
    d.rev,
    convert_from(d.data, 'UTF8'::name) AS data
   FROM (deed.docs d
     JOIN deed.colls c ON ((c.id = d.coll)));
CREATE TABLE deed.streams (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL
)
WITH (fillfactor='70');
CREATE VIEW deed.readable_events AS
 SELECT e.pos,
    s.name AS stream,
    e.version,
    k.type,
    to_timestamp((((e."time")::numeric / '1000000'::numeric))::double precision) AS "time",
    convert_from(e.data, 'UTF8'::name) AS data,
    convert_from(e.meta, 'UTF8'::name) AS meta
   FROM ((deed.events e
     JOIN deed.streams s ON ((s.id = e.stream)))
     JOIN deed.kinds k ON ((k.id = e.kind)));
CREATE TABLE deed.searched (
    coll bigint NOT NULL,
    n integer NOT NULL,
    field text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE ONLY deed.colls
    ADD CONSTRAINT colls_name_key UNIQUE (name);
ALTER TABLE ONLY deed.colls
    ADD CONSTRAINT colls_pkey PRIMARY KEY (id);
ALTER TABLE ONLY deed.docs
    ADD CONSTRAINT docs_pkey PRIMARY KEY (coll, key);
ALTER TABLE ONLY deed.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (pos);
ALTER TABLE ONLY deed.events
    ADD CONSTRAINT events_stream_version_key UNIQUE (stream, version);
ALTER TABLE ONLY deed.fields
    ADD CONSTRAINT fields_coll_field_key UNIQUE (coll, field);
ALTER TABLE ONLY deed.fields
    ADD CONSTRAINT fields_pkey PRIMARY KEY (coll, n);
ALTER TABLE ONLY deed.gone
    ADD CONSTRAINT gone_pkey PRIMARY KEY (block);
ALTER TABLE ONLY deed.head
    ADD CONSTRAINT head_pkey PRIMARY KEY (one);
ALTER TABLE ONLY deed.kinds
    ADD CONSTRAINT kinds_category_type_key UNIQUE (category, type);
ALTER TABLE ONLY deed.kinds
    ADD CONSTRAINT kinds_pkey PRIMARY KEY (id);
ALTER TABLE ONLY deed.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (n);
ALTER TABLE ONLY deed.searched
    ADD CONSTRAINT searched_pkey PRIMARY KEY (coll, n);
ALTER TABLE ONLY deed.streams
    ADD CONSTRAINT streams_name_key UNIQUE (name);
ALTER TABLE ONLY deed.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (id);
