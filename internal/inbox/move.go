package inbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/deed-dev/deed/httpapi"
)

const problemSuffix = ".problem" + suffix

// end moves a file to where it belongs.
func (f *folder) end(root *os.Root, v verdict) {
	a, p := v.arrival, v.problem
	var err error
	if p == nil {
		err = move(root, a, doneDir+"/"+a.name)
	} else {
		err = fail(root, a, *p)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process has moved it
		f.later.drop(a.name)
		return
	case errors.Is(err, errReplaced):
		f.moved.Add(1) // so that the folder is read again
		f.log().Warn("inbox: a file was replaced while it was handled; the new one is handled next", slog.String("name", a.name))
		return
	case err != nil:
		f.postpone(a.name, err)
		return
	}
	f.later.drop(a.name)
	f.moved.Add(1)
	if p == nil {
		f.in.count.handled()
		return
	}
	f.in.count.failed(f.command.String()+"/"+a.name, p.Error())
	f.log().Debug("inbox: refused", slog.String("name", a.name), slog.String("code", p.Code), slog.String("detail", p.Detail))
}

var errReplaced = errors.New("the file was replaced")

// move moves a file, and takes that back if it was not the one that was read:
// nobody has handled the other one.
func move(root *os.Root, a arrival, to string) error {
	if err := rename(root, a.name, to); err != nil {
		return err
	}
	now, err := root.Lstat(to)
	if err != nil || os.SameFile(now, a.info) && now.Size() == a.info.Size() && now.ModTime().Equal(a.info.ModTime()) {
		return nil // an error: somebody tidies up already
	}
	if err := root.Link(to, a.name); err == nil {
		err = root.Remove(to)
		return errors.Join(errReplaced, err)
	} else if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s was replaced twice while it was handled, and what is now %s was not handled: %w", a.name, to, err)
	}
	return errors.Join(errReplaced, root.Rename(to, a.name)) // no links here
}

// rename renames, and makes the folder into which if it is not there.
func rename(root *os.Root, from, to string) error {
	err := root.Rename(from, to)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := root.Lstat(from); err != nil {
		return err
	}
	dir, _, _ := strings.Cut(to, "/")
	if err := root.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return root.Rename(from, to)
}

// fail moves a file to failed, after the problem was put there.
func fail(root *os.Root, a arrival, p httpapi.Problem) error {
	name, err := freeName(root, a)
	if err != nil {
		return err
	}
	to, problem := failedDir+"/"+name+suffix, failedDir+"/"+name+problemSuffix
	if err := writeProblem(root, problem, p); err != nil {
		return err
	}
	err = move(root, a, to)
	if err != nil {
		if _, there := root.Lstat(to); errors.Is(there, fs.ErrNotExist) {
			err = errors.Join(err, root.Remove(problem)) // it explains nothing
		}
	}
	return err
}

// longest is how long a name in failed may be, so that the problem's fits too.
const longest = 200

// freeName returns a name in failed, without its end, that is not that of
// another refused file. A file that is there already is looked for before
// ours is: if it is ours, moved by another process, ours is gone by then.
func freeName(root *os.Root, a arrival) (string, error) {
	stem := a.id()
	if len(stem) > longest {
		sum := sha256.Sum256([]byte(stem))
		stem = strings.ToValidUTF8(stem[:longest/2], "") + "~" + hex.EncodeToString(sum[:8])
	}
	name := stem
	for n := 2; taken(root, failedDir+"/"+name+suffix, a); n++ {
		if _, err := root.Lstat(a.name); err != nil {
			return "", err
		}
		if n > 1000 {
			return "", fmt.Errorf("too many refused files are named %s", stem)
		}
		name = fmt.Sprintf("%s~%d", stem, n)
	}
	return name, nil
}

// taken reports whether something else than a's contents is at path.
func taken(root *os.Root, path string, a arrival) bool {
	info, err := root.Lstat(path)
	if err != nil {
		return false
	}
	if !info.Mode().IsRegular() || info.Size() != a.info.Size() || a.sum == [sha256.Size]byte{} {
		return true
	}
	data, err := root.ReadFile(path)
	return err != nil || sha256.Sum256(data) != a.sum
}

// writeProblem writes the whole problem or nothing, whatever happens.
func writeProblem(root *os.Root, path string, p httpapi.Problem) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := root.Mkdir(failedDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	temp := failedDir + "/." + rand.Text() + ".tmp"
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return notGone(err)
	}
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(notGone(err), root.Remove(temp))
	}
	if err := root.Rename(temp, path); err != nil {
		return errors.Join(notGone(err), root.Remove(temp))
	}
	return nil
}

// notGone hides that something is not there: only the command's own file
// means, by being gone, that somebody else has taken care of it.
func notGone(err error) error { return fmt.Errorf("writing the problem: %v", err) }

// syncDirs makes renames durable. Where the system cannot do that, a file may
// be where it was before after a power cut: its command is asked again, then,
// and gets its first answer.
func syncDirs(root *os.Root) {
	for _, name := range []string{doneDir, failedDir, "."} {
		if dir, err := root.Open(name); err == nil {
			dir.Sync()
			dir.Close()
		}
	}
}
