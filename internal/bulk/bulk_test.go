package bulk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed/internal/textfile"
)

func all(t testing.TB, src Source) (lines []Line) {
	t.Helper()
	for {
		l, err := src.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
}

func ndjsonOf(t testing.TB, text, idField string) Source {
	t.Helper()
	src, err := NDJSON(strings.NewReader(text), idField)
	switch {
	case errors.Is(err, textfile.ErrUTF16): // a fuzzer may well make one
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return src
}

// Files as programs on Windows save them are read like any other, under the
// same keys; UTF-16 is refused as a whole.
func TestWindowsFiles(t *testing.T) {
	lines := func(src Source, err error) (out []string) {
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all(t, src) {
			out = append(out, fmt.Sprintf("%d %s %s%s %s", l.Number, l.ID, l.Body, l.Fault, Key("r", "c", l)))
		}
		return out
	}
	for _, c := range []struct{ plain, windows string }{
		{"\"id\",a\no-1,1\no-2,\"x\ny\"\n", "\ufeff\"id\",a\r\no-1,1\r\no-2,\"x\r\ny\"\r\n"},
		{"id\no-1\n", "\ufeffid\r\no-1"},
	} {
		want, got := lines(CSV(strings.NewReader(c.plain), "id", nil)), lines(CSV(strings.NewReader(c.windows), "id", nil))
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%q\ngot  %q\nwant %q", c.windows, got, want)
		}
	}
	want := lines(NDJSON(strings.NewReader("{\"id\":\"a\"}\n\n{\"id\":\"b\"}\n"), "id"))
	if got := lines(NDJSON(strings.NewReader("\ufeff{\"id\":\"a\"}\r\n\r\n{\"id\":\"b\"}\r\n"), "id")); fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, text := range []string{"\xff\xfei\x00d\x00", "\xfe\xff\x00i\x00d", "i\x00d\x00"} {
		_, err1 := CSV(strings.NewReader(text), "", nil)
		_, err2 := NDJSON(strings.NewReader(text), "")
		if err1 != textfile.ErrUTF16 || err2 != textfile.ErrUTF16 {
			t.Errorf("%q: %v, %v", text, err1, err2)
		}
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct{ typ, cell, want string }{
		{"", "abc", `"abc"`}, {"", "007", `"007"`}, {"", "1,5", `"1,5"`}, {"", "12", `12`}, {"", "-1.5e3", `-1.5e3`},
		{"", "true", `true`}, {"", "True", `"True"`}, {"", "null", `null`}, {"", "[1]", `[1]`}, {"", "{", `"{"`}, {"", " 12", `" 12"`},
		{"", `"12"`, `"12"`}, {"string", "12", `"12"`}, {"string", "true", `"true"`}, {"number", "12", `12`}, {"boolean", "false", `false`},
		{"json", `{"a":1}`, `{"a":1}`},
		{"number", "a", ""}, {"number", "null", ""}, {"number", "0x1", ""}, {"boolean", "1", ""}, {"json", "{", ""}, {"", "\xff", ""},
	} {
		got, err := Value(c.typ, c.cell)
		if string(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q as %q is %s, %v; want %s", c.cell, c.typ, got, err, c.want)
		}
	}
}

func TestCSV(t *testing.T) {
	text := "\ufeffid,a.b,c,a.d.e,f\no-1,1,two,x,\n\"o\n2\",,,,5\n,,,,\n\"x\"y,,,,\no-3,,,,\n"
	src, err := CSV(strings.NewReader(text), "id", map[string]string{"a.b": TypeText})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all(t, src) {
		got = append(got, fmt.Sprintf("%d %q %s %s", l.Number, l.ID, l.Body, l.Fault))
	}
	want := []string{
		`2 "o-1" {"a":{"b":"1","d":{"e":"x"}},"c":"two"} `, `3 "o\n2" {"f":5} `, `5 ""  the column of the id is empty`,
		`6 ""  extraneous or missing " in quoted-field`, `7 "o-3" {} `,
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, header := range []string{"", "a,a", "a,a.b", "a.b,a", "a..b", ",a", "id,id"} {
		if _, err := CSV(strings.NewReader(header+"\n1,2\n"), "id", nil); err == nil {
			t.Errorf("the header %q is accepted", header)
		}
	}
}

// endless is a file without end, in the middle of a quote.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	e.n += len(b)
	return copy(b, bytes.Repeat([]byte("x"), len(b))), nil
}

func TestBoundedMemory(t *testing.T) {
	e := &endless{}
	src, err := CSV(io.MultiReader(strings.NewReader("a\n\""), e), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Next(); err == nil || !strings.Contains(err.Error(), "is a quote not closed") || e.n > 3*MaxLine {
		t.Errorf("%v after %d bytes", err, e.n)
	}
	long := strings.Repeat("x", 3*MaxLine)
	lines := all(t, ndjsonOf(t, "{}\n"+long+"\n{}\n"+long, ""))
	if len(lines) != 4 || lines[1].Fault == "" || lines[2].Number != 3 || lines[2].Fault != "" || lines[3].Fault == "" {
		t.Errorf("%d lines", len(lines))
	}
}

// An interrupted run goes on: every line gets one result, in order, and those
// of one entity are asked in order.
func TestInterrupted(t *testing.T) {
	var text strings.Builder
	const n = 5000
	for i := range n {
		fmt.Fprintf(&text, "{\"id\":\"e-%d\",\"n\":%d}\n", i%7, i)
	}
	path := filepath.Join(t.TempDir(), "results")
	var mu sync.Mutex
	done := map[string]bool{} // by command
	last := map[string]int64{}
	runs := 0
	for whole := false; !whole; runs++ {
		results, err := OpenResults(path, false)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		rep, err := Run(t.Context(), ndjsonOf(t, text.String(), "id"), results, func(_ context.Context, key string, l Line) (Result, error) {
			mu.Lock()
			defer mu.Unlock()
			if asked++; asked > 900 {
				return Result{}, errors.New("the server is away")
			}
			if !done[key] && last[l.ID] >= l.Number {
				t.Errorf("line %d of %s comes after line %d", l.Number, l.ID, last[l.ID])
			}
			done[key], last[l.ID] = true, max(last[l.ID], l.Number)
			if l.Number%100 == 0 {
				return Result{Status: 422, Code: "no"}, nil
			}
			return Result{Status: 200}, nil
		}, Options{Name: "f", Command: "a.b", Parallel: 4, Progress: func(int64) {}})
		if whole = err == nil; whole && (rep.Lines != n || rep.Failed != n/100) {
			t.Errorf("%+v", rep)
		}
		if runs > 100 {
			t.Fatal("it does not get on")
		}
		if runs%2 == 0 && !whole { // and the last bytes are lost
			info, err := os.Stat(path)
			if err := errors.Join(err, os.Truncate(path, max(0, info.Size()-10))); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := int64(0)
	for line := range bytes.Lines(data) {
		var r Result
		if i++; json.Unmarshal(line, &r) != nil || r.Line != i {
			t.Fatalf("result %d is %s", i, line)
		}
	}
	if i != n || len(done) != n {
		t.Errorf("%d results of %d commands in %d runs", i, len(done), runs)
	}
}

func TestKeysDiffer(t *testing.T) {
	l := Line{Number: 1, Raw: []byte("a")}
	keys := map[string]bool{
		Key("f", "a.b", l): true, Key("g", "a.b", l): true, Key("f", "a.c", l): true,
		Key("f", "a.b", Line{Number: 2, Raw: l.Raw}): true, Key("f", "a.b", Line{Number: 1, Raw: []byte("b")}): true,
	}
	if again := Key("f", "a.b", l); len(keys) != 5 || !keys[again] {
		t.Error(keys)
	}
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{"id,a.b\n1,2\n", "a,b,c\n\"x\"\"\",{},[1]\n", "a\n\"", "\ufeffa\n\xff\n", "a.b.c,a.d\n1,\n"} {
		f.Add(s, "id")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, text, idField string) {
		src, err := CSV(strings.NewReader(text), idField, nil)
		if err != nil {
			return
		}
		last := int64(0)
		for {
			l, err := src.Next()
			if err != nil {
				return
			}
			if l.Fault == "" && (!json.Valid(l.Body) || l.Body[0] != '{') || l.Number <= last {
				t.Fatalf("%q is read as %+v", text, l)
			}
			last = l.Number
		}
	})
}

func FuzzNDJSON(f *testing.F) {
	f.Add("{}\n{\"id\":1}\n\n[]", "id")
	f.Fuzz(func(t *testing.T, text, idField string) {
		for _, l := range all(t, ndjsonOf(t, text, idField)) {
			if l.Fault == "" && (!json.Valid(l.Body) || l.Body[0] != '{' || idField != "" && l.ID == "") {
				t.Fatalf("%q is read as %+v", text, l)
			}
		}
	})
}
