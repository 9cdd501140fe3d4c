package deed

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// simFile is a service that survives the programs: a file with a line for each
// thing that was done, undone or refused, which all of them use. It fails a thing
// at the first attempt now and then, before or after it has done it.
type simFile struct {
	fuse *simFuse
	file *os.File

	mu     sync.Mutex
	lines  *bufio.Reader // what others have written
	things map[string]*simThing
}

func openSimFile(dir string, fuse *simFuse) (*simFile, error) {
	file, err := os.OpenFile(filepath.Join(dir, "service.txt"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &simFile{fuse: fuse, file: file, lines: bufio.NewReader(file), things: map[string]*simThing{}}
	return s, s.read()
}

// read takes in what is in the file and was not taken in before.
func (s *simFile) read() error {
	for {
		line, err := s.lines.ReadString('\n') // lines are written at once
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, name, _ := strings.Cut(rest, " ")
		s.take(verb, key, name)
	}
}

// alone does something while no other program uses the file.
func (s *simFile) alone(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := syscall.Flock(int(s.file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	defer syscall.Flock(int(s.file.Fd()), syscall.LOCK_UN)
	if err := s.read(); err != nil {
		return err
	}
	return do()
}

func (s *simFile) take(verb, key, name string) *simThing {
	t := s.things[name]
	if t == nil {
		t = &simThing{}
		s.things[name] = t
	}
	switch verb {
	case "done":
		t.done, t.key = true, key
	case "undone":
		t.done, t.over, t.undoKey = false, true, key
	case "refused":
		t.over, t.key = true, key
	}
	return t
}

func (s *simFile) record(verb, key, name string) error {
	_, err := fmt.Fprintf(s.file, "%s %s %s\n", verb, key, name)
	return err
}

// chance is a number below 100 that belongs to a name.
func chance(name string) int {
	h := fnv.New32a()
	io.WriteString(h, name)
	return int(h.Sum32() % 100)
}

func (s *simFile) do(_ context.Context, name, key string) (string, error) {
	s.fuse.reach("do-before")
	defer s.fuse.reach("do-after")
	return "receipt", s.alone(func() error { return s.doAlone(name, key) })
}

func (s *simFile) doAlone(name, key string) error {
	t := s.take("", key, name)
	t.attempts++
	if t.key != "" && t.key != key {
		return Permanent(fmt.Errorf("%s is asked for under two keys", name))
	}
	c := chance(name)
	switch {
	case t.over:
		return Reason{"refused", "not for you"}
	case t.attempts == 1 && c < 10:
		return errSimDown
	case c >= 96 && !t.done:
		return cmp.Or(s.record("refused", key, name), error(Reason{"refused", "not for you"}))
	case t.done:
		return nil
	}
	if err := s.record("done", key, name); err != nil {
		return err
	}
	if t.attempts == 1 && c < 20 {
		return errSimDown
	}
	return nil
}

func (s *simFile) undo(_ context.Context, name, key string) error {
	s.fuse.reach("undo-before")
	defer s.fuse.reach("undo-after")
	return s.alone(func() error {
		t := s.take("", key, name)
		switch t.undoKey {
		case "":
			return s.record("undone", key, name)
		case key:
			return nil
		}
		return Permanent(fmt.Errorf("undoing %s is asked for under two keys", name))
	})
}
