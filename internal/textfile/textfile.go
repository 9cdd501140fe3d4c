// Package textfile knows how text files begin that people save with one program
// or another.
package textfile

import (
	"bytes"
	"errors"
)

// ErrUTF16 reports a file that is UTF-16, as some programs call Unicode.
var ErrUTF16 = errors.New("the file is UTF-16: save it as UTF-8")

// Mark returns how many bytes at the beginning of a file are a mark that says
// it is UTF-8, or [ErrUTF16]. It looks at the first three bytes.
func Mark(begin []byte) (int, error) {
	switch {
	case bytes.HasPrefix(begin, []byte("\ufeff")):
		return len("\ufeff"), nil
	case bytes.HasPrefix(begin, []byte{0xff, 0xfe}), bytes.HasPrefix(begin, []byte{0xfe, 0xff}),
		len(begin) > 1 && (begin[0] == 0) != (begin[1] == 0): // text without a mark
		return 0, ErrUTF16
	}
	return 0, nil
}
