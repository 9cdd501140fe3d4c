package sqlite

import (
	"fmt"
	"hash/fnv"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// withWords is the first schema with indexes of words.
const withWords = 4

// words verifies that the indexes of words have the words of the documents: no read
// of a damaged one can know that.
func (k *checker) words() error {
	if k.version < withWords {
		return nil
	}
	searched, err := loadSearched(k.conn)
	if err != nil {
		return err
	}
	for coll, fields := range searched {
		if err := k.wordsOf(coll, fields); err != nil {
			return fmt.Errorf("collection %d: %w", coll, err)
		}
	}
	return nil
}

// wordsOf compares what an index has of each document with what it should have. Words
// come in no order, so it is sums of words that are compared.
func (k *checker) wordsOf(coll int64, fields []string) error {
	table := searchTable(coll)
	if err := k.each("CREATE VIRTUAL TABLE temp."+table+"_words USING fts5vocab(main, "+table+", instance)", nil); err != nil {
		return err
	}
	has := map[int64]uint64{}
	err := k.each("SELECT doc, term FROM temp."+table+"_words", func(st *lib.Stmt) error {
		has[st.ColumnInt64(0)] += sumOf(st.ColumnText(1))
		return nil
	})
	if err != nil {
		return err
	}
	err = k.each(fmt.Sprintf("SELECT d.key, d.data, w.id, w.sum FROM docs d LEFT JOIN words w ON w.coll = d.coll AND w.key = d.key WHERE d.coll = %d", coll), func(st *lib.Stmt) error {
		data, id := bytesOf(st, 1), st.ColumnInt64(2)
		_, sum := indexed(data, fields)
		want := uint64(0)
		for _, w := range store.UniqueWords(store.WordsOf(data, fields)) {
			want += sumOf(w)
		}
		if id == 0 || sum != st.ColumnInt64(3) || has[id] != want {
			k.report.add(Problem{Detail: fmt.Sprintf("the index of words of collection %d does not have document %s as it is", coll, st.ColumnText(0))})
		}
		delete(has, id)
		return nil
	})
	if len(has) > 0 && err == nil {
		k.report.add(Problem{Detail: fmt.Sprintf("the index of words of collection %d has %d documents that are not there", coll, len(has))})
	}
	return err
}

func sumOf(word string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(word))
	return h.Sum64()
}
