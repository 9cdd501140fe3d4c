package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Errors of editing dead letters.
var (
	errNoJSON   = errors.New("engine: what is put in the place of an event's data must be JSON")
	errTooLarge = fmt.Errorf("engine: the edits of a dead letter may have %d bytes together", maxCopy)
)

// CanEdit reports whether dead letters of a follower may be edited: nil or
// [ErrNotEditable].
func (e *Engine) CanEdit(name string) error {
	f, err := e.follower(name)
	if err == nil && !f.Editable {
		err = fmt.Errorf("%w: %s", ErrNotEditable, name)
	}
	return err
}

// Edit has the follower of a dead letter see other data than that of the event,
// whenever it tries it from now on. The event stays as it is, and so do its id and
// its place; the sequences it belongs to are those of the event. What it was before
// is kept with the letter.
func (e *Engine) Edit(ctx context.Context, id string, edit LetterEdit) error {
	f, _, err := e.addressee(id)
	if err != nil {
		return err
	}
	if err := e.CanEdit(f.Name); err != nil {
		return err
	}
	if !json.Valid(edit.Data) {
		return errNoJSON
	}
	edit.At = time.Now().UTC()
	_, err = e.onLetter(ctx, id, func(ctx context.Context, w *worker, l *letter) (outcome, error) {
		return w.edit(ctx, l, edit)
	})
	return err
}

// edit saves an edit of a letter.
func (w *worker) edit(ctx context.Context, l *letter, edit LetterEdit) (outcome, error) {
	now, err := w.full(ctx, l)
	if err != nil {
		return outcome{}, err
	}
	size := len(edit.Data)
	for _, former := range now.Edits {
		size += len(former.Data)
	}
	if size > maxCopy {
		return outcome{failure: errTooLarge}, nil
	}
	now.Edits, now.edited = append(now.Edits, edit), true
	change, err := now.saved(w.gen)
	if err != nil {
		return outcome{}, err
	}
	if err := w.commit(ctx, newTx(w.f.store), w.cursor, change); err != nil {
		return outcome{}, err
	}
	w.log.Warn("edited", "id", l.ID, "by", edit.By, "because", edit.Why)
	now.forget()
	w.parked.replace(l, now)
	return outcome{}, nil
}
