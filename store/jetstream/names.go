package jetstream

import (
	"fmt"
	"strings"

	"github.com/deed-dev/deed/store"
)

// Names of streams, collections and keys become tokens of NATS subjects.
// Letters, digits, "-" and "_" stand for themselves, every other byte is "%"
// and two hex digits, so that no two names share a subject and nothing in a
// name (a dot, a star, a space) means anything to NATS. A "%" that is not
// followed by two hex digits cannot come from a name; the tokens below use that.
// The mapping is part of the stored format.
const (
	emptyToken   = "%"  // an empty part of a name
	noRestToken  = "%-" // in place of the rest of a stream's name that has no slash
	checkSubject = "%%" // messages that are not records
)

const hexDigits = "0123456789ABCDEF"

// token returns the subject token for a part of a name.
func token(part string) string {
	if part == "" {
		return emptyToken
	}
	var b strings.Builder
	for i := range len(part) {
		if c := part[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// part is the inverse of token: what no name has as its token is an error.
func part(token string) (string, error) {
	if token == emptyToken {
		return "", nil
	}
	if token == "" {
		return "", notName(token)
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if !plain(c) {
			if c != '%' || len(token) < i+3 {
				return "", notName(token)
			}
			hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
				return "", notName(token)
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func notName(token string) error {
	return fmt.Errorf("%w: jetstream: %q is not a name", store.ErrCorrupt, token)
}

// subjects knows what the subjects of an installation are called.
type subjects struct{ name string }

func (s subjects) log() string  { return s.name + "-log" }  // the JetStream stream of records
func (s subjects) docs() string { return s.name + "-docs" } // and that of documents
func (s subjects) wake() string { return s.name + ".wake" }

func (s subjects) inLog(rest string) string  { return s.name + ".log." + rest }
func (s subjects) inDocs(rest string) string { return s.name + ".docs." + rest }

// stream returns the subject of a stream's records: its category, which
// readers filter by, and the rest of its name.
func (s subjects) stream(name string) string {
	category, rest, ok := strings.Cut(name, "/")
	if !ok {
		return s.inLog(token(category) + "." + noRestToken)
	}
	return s.inLog(token(category) + "." + token(rest))
}

// category returns the subjects of all streams of a category.
func (s subjects) category(name string) string { return s.inLog(token(name) + ".*") }

// check is the subject of messages that only demand something of a stream.
func (s subjects) check() string { return s.inLog(checkSubject + "." + checkSubject) }

// streamOf is the inverse of stream; ok is false for a check.
func (s subjects) streamOf(subject string) (name string, ok bool, err error) {
	if subject == s.check() {
		return "", false, nil
	}
	tokens, ours := strings.CutPrefix(subject, s.inLog(""))
	first, second, two := strings.Cut(tokens, ".")
	if !ours || !two {
		return "", false, fmt.Errorf("%w: jetstream: %s is not the subject of a stream", store.ErrCorrupt, subject)
	}
	category, err := part(first)
	if strings.Contains(category, "/") { // what comes before the first one
		err = notName(first)
	}
	if err != nil || second == noRestToken {
		return category, err == nil, err
	}
	rest, err := part(second)
	return category + "/" + rest, err == nil, err
}

func (s subjects) doc(coll, key string) string { return s.inDocs(token(coll) + "." + token(key)) }

// coll returns the subjects of all documents of a collection.
func (s subjects) coll(name string) string { return s.inDocs(token(name) + ".*") }

// keyOf returns the key of a document from its subject.
func (s subjects) keyOf(subject string) (string, error) {
	return part(subject[strings.LastIndexByte(subject, '.')+1:])
}
