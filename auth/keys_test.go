package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

func request(headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// tried is what a node makes of a key.
func tried(k Authenticator, text string) error {
	_, err := k.Authenticate(request("Authorization", "Bearer "+text))
	return err
}

func create(t testing.TB, k *Keys, n NewKey) (Key, string) {
	t.Helper()
	key, text, err := k.Create(context.Background(), By{Actor: "root"}, n)
	if err != nil {
		t.Fatal(err)
	}
	return key, text
}

func TestKeyIsTaken(t *testing.T) {
	k := NewKeys(mem.New())
	key, text := create(t, k, NewKey{Actor: "ann", Roles: []string{"saver", "reader", "saver"}})
	for _, headers := range [][]string{{"Authorization", "Bearer " + text}, {"Authorization", "bearer " + text}, {"X-Api-Key", text}} {
		p, err := k.Authenticate(request(headers...))
		if err != nil || p.Actor != "ann" || !slices.Equal(p.Roles, []string{"reader", "saver"}) || p.Via != "key:"+key.ID {
			t.Errorf("%.20s: %+v, %v", headers, p, err)
		}
	}
}

func TestKeyIsRefused(t *testing.T) {
	k := NewKeys(mem.New())
	key, text := create(t, k, NewKey{Actor: "ann"})
	_, secret, _ := strings.Cut(strings.TrimPrefix(text, keyPrefix), "_")
	other := keyText(randomText(idBytes), secret)
	for _, c := range []struct {
		headers []string
		want    error
	}{
		{nil, Missing},
		{[]string{"Authorization", "Basic YTpi"}, Missing},
		{[]string{"Authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.x"}, Missing}, // another authenticator's
		{[]string{"Authorization", "Bearer"}, Malformed},
		{[]string{"Authorization", "Bearer "}, Malformed},
		{[]string{"X-Api-Key", ""}, Malformed},
		{[]string{"X-Api-Key", "eyJhbGciOiJSUzI1NiJ9.e30.x"}, Malformed},
		{[]string{"X-Api-Key", text, "X-Api-Key", text}, Several},
		{[]string{"X-Api-Key", text, "Authorization", "Bearer " + text}, Several},
		{[]string{"X-Api-Key", text + "a"}, Malformed},
		{[]string{"X-Api-Key", text[:len(text)-1]}, Malformed},
		{[]string{"X-Api-Key", strings.ToUpper(text)}, Malformed},
		{[]string{"X-Api-Key", strings.TrimSuffix(text, secret)}, Malformed},
		{[]string{"X-Api-Key", text[:len(text)-1] + "7"}, Malformed}, // bits that no secret has
		{[]string{"X-Api-Key", keyText(key.ID, randomText(secretBytes))}, Invalid},
		{[]string{"X-Api-Key", other}, Invalid},
	} {
		if p, err := k.Authenticate(request(c.headers...)); err != c.want || p.Actor != "" {
			t.Errorf("%q: %+v, %v; want %v", c.headers, p, err, c.want)
		}
	}
}

func TestKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewKeys(mem.New())
		_, text := create(t, k, NewKey{Actor: "ann", Expires: time.Now().Add(time.Hour)})
		time.Sleep(time.Hour - time.Millisecond)
		if err := tried(k, text); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		if err := tried(k, text); err != Expired {
			t.Error(err)
		}
	})
}

// A key that one node revokes is refused by all within MaxAge, however busy it
// is. Whoever does not know the secret is not told.
func TestRevocationReachesEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		here, there := NewKeys(s), NewKeys(s)
		key, text := create(t, here, NewKey{Actor: "ann"})
		for range 30 { // it is well known on both nodes
			if err := errors.Join(tried(here, text), tried(there, text)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if k, err := here.Revoke(t.Context(), By{Actor: "root"}, key.ID, "leaked"); err != nil || k.State != "revoked" {
			t.Fatalf("%+v, %v", k, err)
		}
		if err := tried(here, text); err != Revoked {
			t.Errorf("on the node that revoked it: %v", err)
		}
		start := time.Now()
		for tried(there, text) == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > MaxAge {
			t.Errorf("the other node took it for %v more", took)
		}
		if err := tried(there, keyText(key.ID, randomText(secretBytes))); err != Invalid {
			t.Errorf("with another secret: %v", err)
		}
	})
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewKeys(mem.New())
		by := By{Actor: "root"}
		key, first := create(t, k, NewKey{Actor: "ann"})
		time.Sleep(time.Minute)
		rotated, second, err := k.Rotate(t.Context(), by, key.ID, time.Hour)
		if err != nil || rotated.OldUntil != time.Now().UTC().Add(time.Hour) || rotated.Rotated.IsZero() {
			t.Fatalf("%+v, %v", rotated, err)
		}
		want := func(texts []string, errs ...error) {
			t.Helper()
			for i, text := range texts {
				if err := tried(k, text); err != errs[i] {
					t.Errorf("text %d: %v, want %v", i, err, errs[i])
				}
			}
		}
		want([]string{first, second}, nil, nil)
		time.Sleep(time.Hour)
		want([]string{first, second}, Expired, nil)
		_, third, err := k.Rotate(t.Context(), by, key.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		want([]string{first, second, third}, Invalid, nil, nil)
		_, fourth, err := k.Rotate(t.Context(), by, key.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		want([]string{first, second, third, fourth}, Invalid, Invalid, Invalid, nil)
		if _, err := k.Revoke(t.Context(), by, key.ID, ""); err != nil {
			t.Fatal(err)
		}
		want([]string{third, fourth}, Invalid, Revoked)
		if _, _, err := k.Rotate(t.Context(), by, key.ID, 0); err != ErrKeyEnded {
			t.Errorf("a revoked key: %v", err)
		}
	})
}

func TestKeysThatCannotBe(t *testing.T) {
	k := NewKeys(mem.New())
	long := strings.Repeat("x", 501)
	for name, n := range map[string]NewKey{
		"no actor": {}, "long actor": {Actor: long}, "line in the actor": {Actor: "a\nb"}, "actor that is no text": {Actor: "\xff"},
		"no role": {Actor: "a", Roles: []string{""}}, "two roles in one": {Actor: "a", Roles: []string{"admin,reader"}},
		"many roles": {Actor: "a", Roles: make([]string, 51)}, "long note": {Actor: "a", Note: long}, "expired": {Actor: "a", Expires: time.Now().Add(-time.Second)},
	} {
		if _, text, err := k.Create(t.Context(), By{}, n); !errors.Is(err, ErrInput) || text != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", "x", "../x", randomText(idBytes)} {
		if _, err := k.Revoke(t.Context(), By{}, id, ""); !errors.Is(err, ErrNoKey) {
			t.Errorf("revoke %q: %v", id, err)
		}
		if _, _, err := k.Rotate(t.Context(), By{}, id, 0); !errors.Is(err, ErrNoKey) {
			t.Errorf("rotate %q: %v", id, err)
		}
	}
	key, _ := create(t, k, NewKey{Actor: "a"})
	for _, overlap := range []time.Duration{-1, MaxOverlap + 1} {
		if _, _, err := k.Rotate(t.Context(), By{}, key.ID, overlap); !errors.Is(err, ErrInput) {
			t.Errorf("overlap %v: %v", overlap, err)
		}
	}
}

func TestListPages(t *testing.T) {
	k := NewKeys(mem.New())
	for range 7 {
		create(t, k, NewKey{Actor: "ann"})
	}
	var seen []string
	after := ""
	for page := 0; ; page++ {
		keys, next, err := k.List(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			seen = append(seen, key.ID)
		}
		if after = next; next == "" {
			break
		}
	}
	if len(slices.Compact(seen)) != 7 || !slices.IsSorted(seen) {
		t.Errorf("%q", seen)
	}
}

// Use is noted at most every ten minutes, and never in the key's own record.
func TestUseIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		k := NewKeys(s)
		key, text := create(t, k, NewKey{Actor: "ann"})
		for range 100 {
			if err := tried(k, text); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
		}
		list, _, err := k.List(t.Context(), "", 10)
		if err != nil || time.Since(list[0].Used) > noteEvery {
			t.Errorf("%+v, %v", list, err)
		}
		for coll, want := range map[string]uint64{keysColl: 1, usedColl: 3} {
			if d, err := s.Get(t.Context(), coll, key.ID); err != nil || d.Rev != want {
				t.Errorf("%s was written %d times (%v), want %d", coll, d.Rev, err, want)
			}
		}
	})
}

// Acts are recorded with who did them. No secret, nor its hash, is anywhere in
// the log; no secret is anywhere in the store.
func TestActsAreRecorded(t *testing.T) {
	s := mem.New()
	k := NewKeys(s)
	by := By{Actor: "root", Correlation: "flow", Source: "http"}
	key, first, err := k.Create(t.Context(), by, NewKey{Actor: "ann", Roles: []string{"reader"}})
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := k.Rotate(t.Context(), by, key.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if _, err := k.Revoke(t.Context(), by, key.ID, "leaked"); err != nil {
			t.Fatal(err)
		}
	}
	tried(k, second)
	var types []string
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, rec.Type)
		if rec.Stream != "$audit/keys" || string(rec.Meta) != `{"actor":"root","correlation":"flow","source":"http"}` {
			t.Errorf("%s: %s", rec.Stream, rec.Meta)
		}
		var a act
		if err := wire.Unmarshal(rec.Data, &a); err != nil || a.Key != key.ID || a.Actor != "ann" || strings.Contains(string(rec.Data), "hash") {
			t.Errorf("%s, %v", rec.Data, err)
		}
	}
	if want := []string{"key-created", "key-rotated", "key-revoked"}; !slices.Equal(types, want) {
		t.Errorf("%q, want %q", types, want)
	}
	for _, coll := range []string{keysColl, usedColl} {
		for d, err := range s.List(t.Context(), coll, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{first, second} {
				if _, secret, _ := parseKey(text); strings.Contains(string(d.Data), secret) {
					t.Errorf("%s has a secret in it", coll)
				}
			}
		}
	}
}

// If the store cannot say whether a key is good, it is not taken.
func TestStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		k := NewKeys(s)
		_, text := create(t, k, NewKey{Actor: "ann"})
		if err := tried(k, text); err != nil {
			t.Fatal(err)
		}
		s.Close()
		time.Sleep(MaxAge)
		if err := tried(k, text); !errors.Is(err, store.ErrUnavailable) {
			t.Error(err)
		}
	})
}

func TestKeysAtOnce(t *testing.T) {
	k := NewKeys(mem.New())
	key, text := create(t, k, NewKey{Actor: "ann"})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				tried(k, text)
			}
		})
		all.Go(func() {
			if _, err := k.Revoke(t.Context(), By{}, key.ID, ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := tried(k, text); err != Revoked {
		t.Error(err)
	}
}

// What is stored must be readable for ever. Do not change a file; add another
// one beside it, and read both.
func TestStoredFormOfKeys(t *testing.T) {
	const id, text = "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	golden, err := os.ReadFile("testdata/key.json")
	if err != nil {
		t.Fatal(err)
	}
	golden = []byte(strings.TrimSpace(string(golden)))
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 123456000, time.UTC) }
	r := record{
		Actor: "ann", Roles: []string{"operator", "saver"}, Note: "a note", Created: day(1), CreatedBy: "root", Expires: day(20), Revoked: day(10),
		Secrets: []secret{{Hash: hashOf(text), Created: day(2)}, {Hash: hashOf("old"), Created: day(1), Until: day(3)}},
	}
	if data, err := wire.Marshal(r); err != nil || string(data) != string(golden) {
		t.Errorf("%s, %v\nwant %s", data, err, golden)
	}
	s := mem.New()
	if err := s.Write(t.Context(), store.Change{Coll: "$keys", Key: id, Data: golden}); err != nil {
		t.Fatal(err)
	}
	if err := tried(NewKeys(s), keyText(id, text)); err != Revoked {
		t.Error(err)
	}
	a := act{Key: id, Actor: "ann", Roles: []string{"saver"}, Expires: day(1), OldUntil: day(2), Reason: "r"}
	want := `{"key":"aaaaaaaaaaaaaaaa","actor":"ann","roles":["saver"],"expires":"2026-01-01T00:00:00.123456Z","old_until":"2026-01-02T00:00:00.123456Z","reason":"r"}`
	if data, _ := wire.Marshal(a); string(data) != want {
		t.Errorf("%s", data)
	}
	if data, _ := wire.Marshal(used{day(1)}); string(data) != `{"at":"2026-01-01T00:00:00.123456Z"}` {
		t.Errorf("%s", data)
	}
}

func FuzzKey(f *testing.F) {
	k := NewKeys(mem.New())
	_, text := create(f, k, NewKey{Actor: "ann"})
	for _, s := range []string{text, text[:20], "deed_", "deed__", "deed_a_b", "Bearer x", "eyJ.e30.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := k.Authenticate(request("X-Api-Key", s)); s != text && (err == nil || p.Actor != "") {
			t.Errorf("%q is taken for %+v", s, p)
		}
		if id, secret, err := parseKey(s); err == nil && keyText(id, secret) != s {
			t.Errorf("%q is read as %q and %q", s, id, secret)
		}
	})
}

func BenchmarkKey(b *testing.B) {
	k := NewKeys(mem.New())
	_, text := create(b, k, NewKey{Actor: "ann", Roles: []string{"reader"}})
	r := request("Authorization", "Bearer "+text)
	for b.Loop() {
		if _, err := k.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
