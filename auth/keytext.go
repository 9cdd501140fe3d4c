package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strings"
)

// The text of a key is deed_<id>_<secret>. The beginning lets scanners find
// keys that were published by mistake; the id names the key in lists, logs and
// records; the secret is 256 random bits and known to the key's owner only.
const (
	keyPrefix   = "deed_"
	idBytes     = 10
	secretBytes = 32
)

// plainText has no underscore, and no letters that differ in case alone.
var plainText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return plainText.EncodeToString(b)
}

func keyText(id, secret string) string { return keyPrefix + id + "_" + secret }

func looksLikeKey(s string) bool { return strings.HasPrefix(s, keyPrefix) }

// parseKey returns the parts of a key's text.
func parseKey(s string) (id, secret string, err error) {
	rest, ok := strings.CutPrefix(s, keyPrefix)
	id, secret, found := strings.Cut(rest, "_")
	if !ok || !found || !isText(id, idBytes) || !isText(secret, secretBytes) {
		return "", "", Malformed
	}
	return id, secret, nil
}

// isText reports whether s is the one text of so many bytes.
func isText(s string, bytes int) bool {
	if len(s) != plainText.EncodedLen(bytes) {
		return false
	}
	b, err := plainText.DecodeString(s)
	return err == nil && plainText.EncodeToString(b) == s
}

// hashOf is what is kept of a secret. It is a plain SHA-256: a slow hash such
// as argon2 makes guessing expensive where secrets are few, as passwords are.
// Nobody tries 2^256 secrets at any price, and a hash that takes 50 ms for each
// request would let anybody keep the server busy.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
