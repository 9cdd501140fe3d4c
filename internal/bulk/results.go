package bulk

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// A Result is what became of a line.
type Result struct {
	Line    int64  `json:"line"`
	Command string `json:"command"`          // the command's id
	Status  int    `json:"status,omitempty"` // of HTTP; 0 = it was not asked
	Code    string `json:"code,omitempty"`   // of the problem; "" = it is done
	Detail  string `json:"detail,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Version uint64 `json:"version,omitempty"`
}

// Key returns the id of the command of a line: the same for the same line, at
// the same place, of a file of the same name (or a run of that name).
func Key(run, command string, l Line) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %q", run, command, l.Number, l.Raw)
	return "bulk-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// A Results is the file of results: as many as are known, in the order of
// lines. What an earlier run wrote is read first.
type Results struct {
	file *os.File
	old  *bufio.Reader // nil = there is no more
	keep int64         // bytes of the file that are good
	w    *bufio.Writer
}

// OpenResults opens a file of results; again says to ignore what is in it.
func OpenResults(path string, again bool) (*Results, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	r := &Results{file: file}
	if !again {
		r.old = bufio.NewReader(file)
	}
	return r, nil
}

// Known returns the result of a line that an earlier run wrote. Once a line
// has none, or that of another command, the following have none either.
func (r *Results) Known(line int64, key string) (Result, bool) {
	if r.old == nil {
		return Result{}, false
	}
	text, err := r.old.ReadBytes('\n')
	var old Result
	if err == nil && json.Unmarshal(bytes.TrimSpace(text), &old) == nil && old.Line == line && old.Command == key {
		r.keep += int64(len(text))
		return old, true
	}
	r.old = nil
	return Result{}, false
}

// Write writes the result of the next line. Known is not called after.
func (r *Results) Write(res Result) error {
	if err := r.begin(); err != nil {
		return err
	}
	b, err := json.Marshal(res)
	if err != nil {
		return err
	}
	_, err = r.w.Write(append(b, '\n'))
	return err
}

// begin cuts off what the file has behind the known results.
func (r *Results) begin() error {
	if r.w != nil {
		return nil
	}
	r.old, r.w = nil, bufio.NewWriter(r.file)
	_, err := r.file.Seek(r.keep, io.SeekStart)
	return errors.Join(r.file.Truncate(r.keep), err)
}

// Flush hands what was written to the system.
func (r *Results) Flush() error {
	if r.w == nil {
		return nil
	}
	return r.w.Flush()
}

// Close makes the results durable; whole says that the file ends here.
func (r *Results) Close(whole bool) error {
	var err error
	if whole {
		err = r.begin()
	}
	return errors.Join(err, r.Flush(), r.file.Sync(), r.file.Close())
}
