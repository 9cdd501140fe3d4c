package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/store"
)

// A Tx collects the changes of documents that a batch of records brings
// about.
type Tx struct {
	store   store.Reading
	changes []store.Change
	at      map[docKey]int // index into changes
	revs    map[docKey]uint64
	have    map[docKey]store.Doc      // read beforehand; revision 0 = there is none
	undo    []undo                    // what the present record did
	trouble bool                      // the store failed to answer the present record
	pos     store.Position            // of the present record
	open    map[string]store.Position // what the batch leaves open, see Settler; nil: that cannot be

	statements []store.Statement // of SQL, to be executed with the changes
	kept       int               // of these, those of records before the present one
}

type docKey struct{ coll, key string }

type undo struct {
	at    docKey
	index int
	was   store.Change
	fresh bool // there was no change of the document before
}

func newTx(s store.Reading) *Tx {
	return &Tx{store: s, at: map[docKey]int{}, revs: map[docKey]uint64{}}
}

// Get returns a document as the batch would leave it, or [store.ErrNotFound].
// The commit then fails, and the batch is handled again, if anyone else has
// changed the document meanwhile.
func (tx *Tx) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	k := docKey{coll, key}
	if i, ok := tx.at[k]; ok {
		if tx.changes[i].Data == nil {
			return store.Doc{Key: key}, store.ErrNotFound
		}
		return store.Doc{Key: key, Rev: tx.revs[k] + 1, Data: tx.changes[i].Data}, nil
	}
	d, err := tx.stored(ctx, k)
	switch {
	case err == nil || errors.Is(err, store.ErrNotFound):
		tx.revs[k] = d.Rev
	case ctx.Err() == nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrInvalid):
		tx.trouble = true
	}
	return d, err
}

// Put writes a document.
func (tx *Tx) Put(coll, key string, data []byte) error {
	if data == nil {
		return fmt.Errorf("engine: document %s/%s has no data", coll, key)
	}
	return tx.change(coll, key, data)
}

// Delete removes a document, if it is there.
func (tx *Tx) Delete(coll, key string) error { return tx.change(coll, key, nil) }

func (tx *Tx) change(coll, key string, data []byte) error {
	k := docKey{coll, key}
	c := store.Change{Coll: coll, Key: key, Rev: store.AnyRev, Data: data}
	if i, ok := tx.at[k]; ok {
		c.Rev = tx.changes[i].Rev
		tx.undo = append(tx.undo, undo{at: k, index: i, was: tx.changes[i]})
		tx.changes[i] = c
		return nil
	}
	if err := store.CheckChanges([]store.Change{c}); err != nil {
		return Permanent(err)
	}
	if rev, read := tx.revs[k]; read {
		c.Rev = rev
	}
	tx.at[k] = len(tx.changes)
	tx.undo = append(tx.undo, undo{at: k, index: len(tx.changes), fresh: true})
	tx.changes = append(tx.changes, c)
	return nil
}

// keep makes the changes of the present record part of the batch.
func (tx *Tx) keep() { tx.undo, tx.trouble, tx.kept = tx.undo[:0], false, len(tx.statements) }

// Execute has a statement of SQL executed when the changes are written.
func (tx *Tx) Execute(st store.Statement) error {
	if err := store.CheckStatements(st); err != nil {
		return Permanent(err)
	}
	tx.statements = append(tx.statements, st)
	return nil
}

// drop takes the changes of the present record back.
func (tx *Tx) drop() {
	for i := len(tx.undo) - 1; i >= 0; i-- {
		u := tx.undo[i]
		if u.fresh {
			delete(tx.at, u.at)
			tx.changes = tx.changes[:u.index]
			continue
		}
		tx.changes[u.index] = u.was
	}
	tx.statements = tx.statements[:tx.kept]
	tx.keep()
}
