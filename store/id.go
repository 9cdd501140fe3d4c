package store

import (
	"encoding/hex"
	"errors"
)

// An ID identifies an event. Its text form is that of a UUID.
type ID [16]byte

// String returns the ID in the canonical form of a UUID.
func (id ID) String() string {
	b, _ := id.AppendText(nil)
	return string(b)
}

// AppendText appends the canonical form to b; the error is always nil.
func (id ID) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, id[0:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:16]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return b, nil
}

// MarshalText returns the canonical form; the error is always nil.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText reads the canonical form.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := ParseID(string(text))
	if err == nil {
		*id = v
	}
	return err
}

var errID = errors.New("store: an event id has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")

// ParseID reads the canonical form of a UUID, in either case.
func ParseID(s string) (id ID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, errID
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, errID
	}
	return id, nil
}
