package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// The words of a document are beside it, and one partial index for each collection
// says which documents have a word, and nothing else. What a word is package store
// says. What the index finds are candidates: each is looked at. So words that follow
// each other are found.

func (s *Store) searchIndexName(coll int64) string { return fmt.Sprintf("docs_%d_words", coll) }

// EnsureSearch implements [store.Searcher]. Nobody can write documents while the
// fields are declared; those there are get their words.
func (s *Store) EnsureSearch(ctx context.Context, coll string, fields []string) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	id, err := s.coll(ctx, coll)
	if err == nil && id == 0 && len(fields) > 0 {
		id, err = s.makeColl(ctx, coll)
	}
	if err != nil || id == 0 {
		return s.failure(err)
	}
	had, err := s.searchedIn(ctx, s.pool, id)
	if err != nil || slices.Equal(had, fields) {
		return s.failure(err)
	}
	return s.failure(pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error { return s.declareSearch(ctx, tx, id, fields) }))
}

func (s *Store) declareSearch(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
	if err := s.standStill(ctx, tx); err != nil {
		return err
	}
	for _, query := range []string{
		"DROP INDEX IF EXISTS {}." + s.searchIndexName(coll), fmt.Sprintf("DELETE FROM {}.searched WHERE coll = %d", coll),
	} {
		if _, err := tx.Exec(ctx, s.sql(query)); err != nil {
			return err
		}
	}
	if len(fields) == 0 {
		_, err := tx.Exec(ctx, s.sql("UPDATE {}.docs SET words = NULL WHERE coll = $1 AND words IS NOT NULL"), coll)
		return err
	}
	_, err := tx.Exec(ctx, s.sql("INSERT INTO {}.searched (coll, n, field) SELECT $1, n, field FROM unnest($2::text[]) WITH ORDINALITY u (field, n)"), coll, fields)
	if err != nil {
		return err
	}
	err = s.eachChunk(ctx, tx, coll, func(docs []store.Doc) error {
		keys, words := make([][]byte, len(docs)), make([]string, len(docs))
		for i, d := range docs {
			keys[i], words[i] = []byte(d.Key), wordsOf(d.Data, fields)
		}
		_, err := tx.Exec(ctx, s.sql(`UPDATE {}.docs d SET words = u.words::tsvector FROM unnest($2::bytea[], $3::text[]) u (key, words)
			WHERE d.coll = $1 AND d.key = u.key`), coll, keys, words)
		return err
	})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql(fmt.Sprintf("CREATE INDEX %s ON {}.docs USING gin (words) WHERE coll = %d", s.searchIndexName(coll), coll)))
	return err
}

// searchedIn returns the fields of a collection whose text is searched by an index.
func (s *Store) searchedIn(ctx context.Context, q querier, coll int64) ([]string, error) {
	rows, err := q.Query(ctx, s.sql("SELECT field FROM {}.searched WHERE coll = $1 ORDER BY n"), coll)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// wordsOf returns the words of a document, as the server writes a tsvector: words
// have no characters that mean something there.
func wordsOf(data []byte, fields []string) string {
	return strings.Join(store.UniqueWords(store.WordsOf(data, fields)), " ")
}

// candidates is the condition of having the words of a search.
func candidates(search store.Search, arg func(any) string) string {
	var terms []string
	for _, t := range search {
		for i, w := range t.Words {
			w = "'" + w + "'"
			if t.Prefix && i == len(t.Words)-1 {
				w += ":*"
			}
			terms = append(terms, w)
		}
	}
	return "words @@ " + arg(strings.Join(terms, " & ")) + "::tsquery"
}
