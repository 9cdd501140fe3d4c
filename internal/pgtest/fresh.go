package pgtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// initdbArgs are those of initdb but for the folder.
func initdbArgs() []string {
	return []string{"-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"}
}

// initialize makes the data folder of a server that has nothing yet. initdb takes
// ten times as long as to copy what it makes, and the tests start a hundred servers:
// it runs once for all that have the same folder for temporary files, which is
// where its folder is kept.
func (s *Server) initialize() error {
	kept, err := s.keptPath()
	if err != nil {
		return err
	}
	if exists(kept) {
		return errors.Join(os.CopyFS(s.data(), os.DirFS(kept)), ownAll(s.data()))
	}
	if err := s.tool("initdb", append([]string{"-D", s.data()}, initdbArgs()...)...); err != nil {
		return err
	}
	return keep(s.data(), kept)
}

// keptPath is where the folder is kept that this version of initdb makes for this
// user.
func (s *Server) keptPath() (string, error) {
	version, err := s.Tool("", "initdb", "--version")
	if err != nil {
		return "", err
	}
	made := sha256.Sum256([]byte(version + strings.Join(initdbArgs(), " ")))
	return filepath.Join(os.TempDir(), fmt.Sprintf("deed-pg-kept-%d-%x", os.Getuid(), made[:6])), nil
}

// keep copies a folder to where it is looked for, whole or not at all: other tests
// may do the same now.
func keep(from, to string) error {
	part, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	if err := os.CopyFS(part, os.DirFS(from)); err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	if err := os.Rename(part, to); err != nil && !exists(to) {
		return errors.Join(err, os.RemoveAll(part))
	}
	return os.RemoveAll(part)
}

// ownAll gives a folder and all that is in it to who runs the server.
func ownAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, own(path))
	})
}
