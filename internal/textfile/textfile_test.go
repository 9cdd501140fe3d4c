package textfile

import "testing"

func TestMark(t *testing.T) {
	for begin, want := range map[string]struct {
		n   int
		err error
	}{
		"": {}, "{": {}, `{"a":1}`: {}, "ü": {}, "\xff": {}, "\xef\xbb": {}, "\x00\x00\x00": {},
		"\ufeff": {n: 3}, "\ufeff{}": {n: 3},
		"\xff\xfe{\x00": {err: ErrUTF16}, "\xfe\xff\x00{": {err: ErrUTF16}, "{\x00}\x00": {err: ErrUTF16}, "\x00{\x00}": {err: ErrUTF16},
	} {
		if n, err := Mark([]byte(begin)); n != want.n || err != want.err {
			t.Errorf("%q: %d, %v; want %d, %v", begin, n, err, want.n, want.err)
		}
	}
}
