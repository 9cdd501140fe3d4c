package cli_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// deed check reads an installation of JetStream, makes none, and finds a
// follower that has read more than there is.
func TestCheckJetStream(t *testing.T) {
	url := natstest.Start(t, t.TempDir(), 1, nil).URL("app")
	check := func() (int, string) {
		var out bytes.Buffer
		code := cli.Run(t.Context(), []string{"check", "--store", url + "?sync=always&name=shop"}, strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, out := check(); code == 0 || !strings.Contains(out, "there is no installation") {
		t.Errorf("nothing is there: exit %d: %s", code, out)
	}
	s, err := jetstream.Open(url, &jetstream.Options{Name: "shop", SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Append(t.Context(), store.Write{Stream: "a/1", Expect: store.None, Events: []store.Event{{ID: store.ID{1}, Type: "x", Data: []byte("{}")}}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"sound", "the log ends at 1: its last events are lost"} {
		at := store.CursorAt(store.Position{Seq: uint64(i + 1)})
		c := store.Change{Coll: "$cursor", Key: "f/1/0-of-1", Rev: store.AnyRev, Data: fmt.Appendf(nil, `{"cursor":%q}`, at)}
		if err := s.Write(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if code, out := check(); code != i || !strings.Contains(out, want) || !strings.Contains(out, "1 events in 1 streams, 1 documents") {
			t.Errorf("exit %d: %s, want %q", code, out, want)
		}
	}
}
