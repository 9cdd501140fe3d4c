package durable

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// maxName is how long the name of a file may be, without its ending: most file
// systems take 255 bytes.
const maxName = 200

// Name is a name that any file system takes and that belongs to one id alone:
// what is not a plain character is written as % and its code.
func Name(id string) string {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; plain(c) || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return shorten(b.String()) + ".json"
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// shorten makes a name fit; what is cut off is replaced by a digest of it all.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	return fmt.Sprintf("%s~%x", name[:maxName-33], sha256.Sum256([]byte(name)))[:maxName]
}
